"""A float network to one in 8 bits, in one call."""
