"""Readers of tables with one row per step: CSV, Parquet and Arrow files, folders of them, and LeRobot's folders."""
