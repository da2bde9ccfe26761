"""Comparison of models on the same rows: train them, rank them, and say which one to take."""
