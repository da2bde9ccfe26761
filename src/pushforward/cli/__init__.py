"""The command ``pushforward``: one file per verb, each a thin layer over the library.

Verbs import the library inside their functions, so that ``--help`` does not wait for torch.
"""

from pushforward.cli.app import main

__all__ = ["main"]
