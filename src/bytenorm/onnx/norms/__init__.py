"""Which norms a graph has, however they are written, and what surrounds them."""
