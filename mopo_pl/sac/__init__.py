"""Soft actor-critic (networks, equations, updates) and behaviour cloning of its actor. It does not depend on the dynamics model."""
