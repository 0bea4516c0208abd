"""Collect logs in an environment, by given behaviours or by soft actor-critic that learns there, and relabel their rewards."""
