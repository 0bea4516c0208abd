"""The learned termination rule: a classifier of logged terminal steps, its training, and its threshold."""
