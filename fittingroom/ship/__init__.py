"""Putting a trained model to use."""
