"""Float ONNX → half precision, node by node."""
