"""The parts of `benchmarks/gpu.py`, one a file, and what they share."""
