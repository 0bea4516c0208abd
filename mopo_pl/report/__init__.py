"""Report of a run: one page with everything that is known about it, gathered from its folder and its log."""
