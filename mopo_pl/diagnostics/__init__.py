"""Diagnostics of a run and its policy without a simulator: signs of trouble, estimates of the return, and the reliability of these estimates."""
