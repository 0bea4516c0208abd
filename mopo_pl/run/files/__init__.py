"""The files of a run folder: their paths, the configuration, the provenance, the metrics rows and the result."""
