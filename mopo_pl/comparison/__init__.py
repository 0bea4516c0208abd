"""Comparison of finished runs: grouped by their settings, with statistics over seeds, and written as pages."""
