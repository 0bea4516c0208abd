"""The health of a run: what its metrics rows say of its training."""
