"""Several runs: swept over settings, searched by Optuna, and compared."""
