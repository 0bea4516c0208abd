"""The report of a run: everything that is known about it, gathered from its folder and its log, on one page."""
