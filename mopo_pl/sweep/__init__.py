"""Sweeps of many runs, over a grid of settings or by an Optuna search. The same command continues an interrupted sweep."""
