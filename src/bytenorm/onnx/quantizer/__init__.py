"""ONNX Runtime's static quantizer, and what it is asked for."""
