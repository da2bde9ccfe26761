"""Families that map rows to noise and back: normalizing flows and continuous flows."""
