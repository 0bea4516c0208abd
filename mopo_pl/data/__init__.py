"""Logs: file formats, the currency `Transitions`, buffers and batches."""
