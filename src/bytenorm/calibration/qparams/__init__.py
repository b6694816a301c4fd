"""A scale and a zero point for the output of a norm, by how its numbers are distributed."""
