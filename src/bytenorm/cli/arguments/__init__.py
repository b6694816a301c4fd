"""What the commands are called with; nothing here needs onnx, so that help is there without it."""
