"""Logs: readers of file formats, the packed rows `Transitions`, checks of a log, and batches for training."""
