"""Files on disk that are complete or absent: atomic writes, checkpoints, refreshes of the model buffer."""
