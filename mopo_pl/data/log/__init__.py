"""From what `dataset=` names to an `OfflineDataset`: opened, checked and packed."""
