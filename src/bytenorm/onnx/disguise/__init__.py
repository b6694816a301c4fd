"""Norms go through a quantizer as convolutions."""
