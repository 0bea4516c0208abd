"""Settings: every key with its default, how a command line becomes them, and what cannot be."""
