"""Finished runs beside each other: grouped by their settings, with statistics over seeds, and written as pages."""
