"""Checks of a log, by theme: each looks for one mistake that a file can be read in spite of."""
