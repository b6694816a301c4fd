"""Where an 8-bit network loses accuracy to the float one, and what mends it."""
