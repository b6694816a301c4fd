"""Whole 8-bit networks in ONNX Runtime, with the norms that nobody can fold: ``python -m benchmarks.networks``."""
