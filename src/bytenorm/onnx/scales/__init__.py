"""Scales of a graph that ONNX Runtime's quantizer made: others, and all that follows from them."""
