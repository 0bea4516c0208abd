"""Several processes of one run: collectives, process start, console output, signals."""
