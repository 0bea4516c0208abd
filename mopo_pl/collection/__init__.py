"""Logs collected in an environment, by given behaviours or by soft actor-critic that learns there, and relabelled ones."""
