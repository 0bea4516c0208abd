"""Opening, checking and packing of the log that `dataset=` names, which gives an `OfflineDataset`."""
