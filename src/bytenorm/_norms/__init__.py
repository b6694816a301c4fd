"""Batch normalization on 8-bit data: alone, behind concatenations and sums, and in integers."""
