"""Readers of file formats, each of which makes a `RawLog` of a file."""
