"""Estimates of a policy's return without a simulator, and the verdict that weighs them."""
