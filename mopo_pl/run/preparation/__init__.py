"""What is read, tried and estimated before a run begins."""
