"""What ONNX Runtime's quantizer puts behind names: see clashes.py for names that it would take for its own."""

NODE = "_quant"  # a node, in QOperator format
CODES = "_quantized"  # the codes of a tensor that an operator on codes makes, and of a constant
MADE = "_QuantizeLinear_Output"  # the codes that a QuantizeLinear makes; a lowered norm keeps the name
OUTPUT = "_QuantizeLinear_Input"  # an output of the model, before it is quantized
