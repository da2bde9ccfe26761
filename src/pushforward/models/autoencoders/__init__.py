"""Families with a coder: rows to codes and back, by one network that encodes and one that decodes."""
