"""What both TensorRT libraries, and CUDA in PyTorch, need."""
