"""The command ``pushforward``: one file per verb, each a thin layer over the library."""

from pushforward.cli.app import main

__all__ = ["main"]
