"""Where a verb writes: checked before any long work, so that no file is lost and no work is wasted."""

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Overwrite", "check_output"]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist already.")]


def check_output(*paths: Path, overwrite: bool, folder: bool = False) -> None:
    """Raise a ValueError or an OSError unless files can be written at all paths, or with ``folder`` a new folder at each.

    Files of a run, and folders that are not empty, are never replaced; any other file is replaced only with ``overwrite``.
    """
    # Deferred, because they import torch.
    from pushforward.models.files.protected import check_not_of_run
    from pushforward.training.record.folders import check_writable

    for path in paths:
        check_not_of_run(path)
        if path.is_dir():
            if not folder:
                raise ValueError(f"{path} is a folder; name a file with --out")
            if any(path.iterdir()):
                raise ValueError(f"{path} holds files already; name a new folder with --out")
        elif os.path.lexists(path) and not overwrite:
            raise ValueError(f"{path} exists already; write --overwrite to replace it, or name another with --out")
    for place in {path.parent for path in paths}:
        check_writable(place)
