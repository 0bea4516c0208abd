"""Estimates of a policy's return without a simulator, and the verdict that is derived from them."""
