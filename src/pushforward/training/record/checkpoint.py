"""Checkpoints on disk: a kill at any moment leaves the last sound one, and reading runs no code.

A checkpoint is a folder ``step-00000500`` with one safetensors file per group of tensors and ``manifest.json``: the plain
state, the SHA-256 of every file, and the SHA-256 of the manifest's own content. It is written under a temporary name,
flushed to the disk, and then renamed, which is atomic. The last two are kept. A damaged one is skipped, with a warning, for
the previous one. Only plain files inside the folder are read.
"""

import abc
import hashlib
import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pushforward._messages import printable
from pushforward.training.record.files import inside, read_file, write_file

__all__ = ["Checkpoint", "FolderStore", "MemoryStore", "Store"]

Files = dict[str, dict[str, Tensor]]
MANIFEST = "manifest.json"
FORMAT = 1
KEEP = 2
_MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A state of a run: tensors by file and name, and everything else as JSON values."""

    step: int
    files: Files
    state: dict[str, Any]


class Store(abc.ABC):
    """Storage for the states that a run can return to."""

    @abc.abstractmethod
    def save(self, checkpoint: Checkpoint) -> None:
        """Store a state; its tensors may change afterwards."""

    @abc.abstractmethod
    def latest(self) -> Checkpoint | None:
        """Return the latest sound state, or None."""

    @abc.abstractmethod
    def steps(self) -> list[int]:
        """Return the steps of all stored states, sound or not."""


class MemoryStore(Store):
    """Stores copies of the last state in this process, in CPU memory."""

    def __init__(self) -> None:
        self._last: Checkpoint | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Store copies of the tensors."""
        files = {
            name: {key: value.detach().to("cpu", copy=True) for key, value in tensors.items()}
            for name, tensors in checkpoint.files.items()
        }
        self._last = Checkpoint(checkpoint.step, files, json.loads(json.dumps(checkpoint.state)))

    def latest(self) -> Checkpoint | None:
        """Return the last state."""
        return self._last

    def steps(self) -> list[int]:
        """Return the step of the last state."""
        return [] if self._last is None else [self._last.step]


class FolderStore(Store):
    """Stores the last two states as folders in ``folder``; files of more than ``most`` bytes are not read."""

    def __init__(self, folder: Path, most: int = 1 << 40) -> None:
        self.folder, self._most = folder, most

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then delete all but the last two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / _name(checkpoint.step)
        self._clear_unfinished()
        partial = self.folder / f".partial-{final.name}"
        partial.mkdir()
        digests = {f"{name}.safetensors": _write_tensors(partial, name, tensors) for name, tensors in checkpoint.files.items()}
        manifest = {"format": FORMAT, "step": checkpoint.step, "state": checkpoint.state, "files": digests}
        manifest["sha256"] = _digest_of(manifest)
        write_file(partial / MANIFEST, json.dumps(manifest, indent=1))
        _flush(partial)
        if final.exists():
            final.rename(self.folder / f".old-{final.name}")
        partial.rename(final)
        _flush(self.folder)
        self._clear_unfinished()
        # Later checkpoints are damaged, otherwise the run would have resumed from there.
        sound = [folder for folder in self._folders() if _step(folder) <= checkpoint.step]
        for folder in self._folders():
            if folder not in sound[-KEEP:]:
                shutil.rmtree(folder)

    def latest(self) -> Checkpoint | None:
        """Return the newest sound checkpoint, or None if there is none; warn of the damaged ones it skips."""
        for folder in reversed(self._folders()):
            try:
                return _read(folder, self._most)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                warnings.warn(
                    f"The checkpoint {printable(folder)} is damaged ({printable(error)}); falling back to the one before it.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return None

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints in the folder, sound or not."""
        return [_step(folder) for folder in self._folders()]

    def path(self, step: int) -> Path:
        """Return the folder of the state at a step."""
        return self.folder / _name(step)

    def _folders(self) -> list[Path]:
        found = (path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,16}", path.name, re.ASCII))
        return sorted((inside(self.folder, path.name) for path in found), key=_step)

    def _clear_unfinished(self) -> None:
        for pattern in (".partial-step-*", ".old-step-*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(inside(self.folder, path.name))


def _write_tensors(folder: Path, name: str, tensors: dict[str, Tensor]) -> str:
    from safetensors.torch import save

    content = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    write_file(folder / f"{name}.safetensors", content)
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path, most: int) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    manifest = json.loads(read_file(folder / MANIFEST, _MOST_BYTES))
    stated = manifest.pop("sha256")
    if stated != _digest_of(manifest):
        raise ValueError(f"{MANIFEST} does not match its checksum")
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is {manifest['format']!r}; this version reads {FORMAT}")
    step, state = manifest["step"], manifest["state"]
    if type(step) is not int or _name(step) != folder.name or not isinstance(state, dict):
        raise ValueError(f"{MANIFEST} is of step {step!r}, not of the step in the name of the folder")
    files: Files = {}
    for name, digest in manifest["files"].items():
        if not re.fullmatch(r"\w+\.safetensors", name, re.ASCII):
            raise ValueError(f"{MANIFEST} lists {name!r}, but its files are named like weights.safetensors")
        content = read_file(folder / name, most)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{name} does not match its checksum")
        try:
            files[name.removesuffix(".safetensors")] = load(content)
        except SafetensorError as error:
            raise ValueError(f"{name}: {error}") from error
    return Checkpoint(step, files, state)


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _flush(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system supports it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
