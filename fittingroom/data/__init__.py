"""Data: named sets and where their bytes come from, one reader per format, splits, augmentation, resident batches."""
