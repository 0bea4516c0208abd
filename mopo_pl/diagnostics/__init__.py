"""How far a model and its policy can be trusted without a simulator: errors on the log, estimates of the return, their worth."""
