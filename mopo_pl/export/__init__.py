"""A policy as files that run without this project: ONNX, a torch program, NumPy alone."""
