"""The configuration: its keys and defaults, how a command line sets them, which values are valid."""
