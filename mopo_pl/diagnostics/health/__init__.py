"""Health of a run: signs of trouble in the metrics rows of its training."""
