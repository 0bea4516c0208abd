"""Batches for the Trainer, and the buffers that they are drawn from."""
