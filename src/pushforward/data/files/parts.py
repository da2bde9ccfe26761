"""Many samples in the Parquet files of a folder, one part after the other, so that the memory holds one part at a time.

A part gets its name once it is complete. A file beside the parts says what they belong to, so that the same call continues
where it stopped, and another call is refused.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pushforward.data.checks import Facts, Values
from pushforward.data.files.write import write_samples
from pushforward.data.schema import Schema

__all__ = ["Parts", "begun"]

PART_ROWS = 100_000
_FACTS = "samples.json"
_UNFINISHED = ".unfinished.parquet"


class Parts:
    """A folder of samples.

    Parameters
    ----------
    folder : Path
        New or empty, or begun by the same call.
    asked : dict
        What the samples depend on, as plain data: their number, the seed, the model, conditions and options.

    Raises
    ------
    ValueError
        If the folder holds anything else.
    """

    def __init__(self, folder: Path, asked: Facts) -> None:
        self.folder, self.n = folder, int(asked["n"])
        known = begun(folder)
        if known is None:
            if folder.is_dir() and any(folder.iterdir()):
                raise ValueError(
                    f"{folder} already holds files; choose a new folder, so that samples are not mixed with others."
                )
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _FACTS).write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        elif known != asked:
            changed = ", ".join(sorted(name for name in known.keys() | asked.keys() if known.get(name) != asked.get(name)))
            raise ValueError(f"{folder} holds samples of another call (different: {changed}); choose a new folder.")

    def missing(self) -> Iterator[tuple[Path, int, int]]:
        """Yield of each part that is not written its path, the number of its first sample, and how many it has."""
        digits = max(5, len(str(self.n // PART_ROWS)))
        for first in range(0, self.n, PART_ROWS):
            path = self.folder / f"part-{first // PART_ROWS:0{digits}d}.parquet"
            if not path.is_file():
                yield path, first, min(PART_ROWS, self.n - first)

    def write(self, path: Path, schema: Schema, values: Values, condition: Any) -> None:
        """Write a part, which gets its name once it is complete."""
        unfinished = self.folder / _UNFINISHED
        write_samples(unfinished, values, schema, condition=condition)
        unfinished.replace(path)


def begun(folder: Path) -> Facts | None:
    """Return what the samples in a folder belong to; None if it was not begun by such a call."""
    try:
        known = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None
