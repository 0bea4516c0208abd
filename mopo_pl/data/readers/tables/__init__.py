"""Tables of one row a step: CSV, Parquet, Arrow; folders of them; LeRobot's folders."""
