"""Steps before a run begins: reading and checking the inputs, and estimating memory, disk and time."""
