"""Export of a policy as files that run without this project: ONNX, a torch program, or NumPy alone."""
