"""What the configuration is put together from: conf/, a mapping file, settings as they are typed, in their order."""
