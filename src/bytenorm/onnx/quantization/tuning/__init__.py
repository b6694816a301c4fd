"""Steps that bring an 8-bit network nearer to the float one, once ONNX Runtime's quantizer has made it."""
