"""What commands do with a finished run."""
