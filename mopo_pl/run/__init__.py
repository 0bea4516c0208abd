"""The run of a configuration: preparation, run folder, training stages, result, and commands on finished runs."""
