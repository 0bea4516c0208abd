"""A run: its folder, its stages in order, its result."""
