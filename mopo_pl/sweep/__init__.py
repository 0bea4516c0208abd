"""Many runs of one log: a grid of settings, or a search by Optuna, continued by the same command."""
