"""The learned dynamics model: ensemble, likelihood, penalty, termination rules and rollouts. It does not depend on SAC."""
