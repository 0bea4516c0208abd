"""Page about a run: gathering, measuring and layout of the contents of its folder and log."""
