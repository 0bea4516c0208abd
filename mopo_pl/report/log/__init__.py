"""The page about a log, which `inspect --html` writes."""
