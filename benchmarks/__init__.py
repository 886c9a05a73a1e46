"""How fast Needle is, beside NumPy written by hand, PyTorch, JAX and ONNX Runtime."""
