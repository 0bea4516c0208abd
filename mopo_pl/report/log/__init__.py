"""Page about a log, which `inspect --html` writes."""
