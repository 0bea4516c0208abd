"""The learned model: ensemble, likelihood, penalty, termination, rollouts. Knows nothing of SAC."""
