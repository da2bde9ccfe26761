"""The version, which packaging and run folders read."""

__version__ = "0.1.0"
