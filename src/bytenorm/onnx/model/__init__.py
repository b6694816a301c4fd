"""ONNX models as files and messages: read, checked, written."""
