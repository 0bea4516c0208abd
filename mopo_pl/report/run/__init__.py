"""The page about a run: what its folder and its log say, measured, written and laid out."""
