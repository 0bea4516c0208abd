"""Soft actor-critic: networks, equations, updates; behaviour cloning of its actor. Knows nothing of the learned model."""
