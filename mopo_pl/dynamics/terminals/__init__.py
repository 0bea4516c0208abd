"""The learned rule of termination: a classifier of logged terminals, its training, and its threshold."""
