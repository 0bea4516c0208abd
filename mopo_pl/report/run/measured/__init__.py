"""Measurements for the report of a run, with its ensemble and its policy, on its log."""
