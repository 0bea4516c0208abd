"""The commands for finished runs: evaluate, video, export, push and estimate."""
