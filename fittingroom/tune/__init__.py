"""Tuning: a search over recipes, by asking and telling; each trial is an ordinary run."""
