"""Which norms one operator computes together with what they read."""
