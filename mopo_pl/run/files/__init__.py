"""The files of a run folder: where each lies, its configuration and provenance, its metrics rows, its result."""
