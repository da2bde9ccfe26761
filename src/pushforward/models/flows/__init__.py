"""Families with an invertible map from rows to noise: normalizing flows and continuous flows."""
