"""Quantized tensors, and what makes them of numbers and numbers of them."""
