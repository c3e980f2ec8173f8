"""Graph → ONNX."""
