"""Files that are there whole or not at all, whenever a process is killed."""

import os
from pathlib import Path

__all__ = ["write_file"]


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8, in one piece: under another name, flushed to the disk, and then renamed."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
