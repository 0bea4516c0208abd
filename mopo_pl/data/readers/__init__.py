"""File formats: each reader makes a `RawLog` of one."""
