"""Exported programs: quantized, lowered, written as ONNX."""
