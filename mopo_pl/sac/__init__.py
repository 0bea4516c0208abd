"""Soft actor-critic: networks, equations, updates. Knows nothing of the learned model."""
