"""Checks of a log, by topic. Each looks for a mistake that does not keep the file from being read."""
