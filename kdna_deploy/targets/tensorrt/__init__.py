"""ONNX file → TensorRT engine with a record beside it, and what TensorRT made of the graph."""
