"""The sources of a configuration: files in conf/, a mapping file, and settings on the command line, and their merging."""
