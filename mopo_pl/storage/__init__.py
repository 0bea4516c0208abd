"""Files on disk that are either complete or absent: atomic writes, checkpoints, refreshes of the model buffer."""
