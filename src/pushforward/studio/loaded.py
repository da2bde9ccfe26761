"""The models of finished runs that stay in memory for the pages."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from pushforward.data import Dataset
from pushforward.models import GenerativeModel, load
from pushforward.models.files.storage import read_card
from pushforward.studio.workspace import Workspace

__all__ = ["Models"]

T = TypeVar("T")
_MOST = 3


class Models:
    """The models of finished runs, the last few of which stay in memory. One works at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._lock = workspace, threading.Lock()
        self._loaded: OrderedDict[tuple[Path, float], GenerativeModel] = OrderedDict()

    def use(self, folder: Path, work: Callable[[Any], T]) -> T:
        """Return ``work(model)`` for the model of a run."""
        with self._lock, torch.no_grad():
            key = folder, (folder / "model.json").stat().st_mtime
            if key not in self._loaded:
                self._loaded[key] = load(folder)
            self._loaded.move_to_end(key)
            while len(self._loaded) > _MOST:
                self._loaded.popitem(last=False)
            return work(self._loaded[key])

    def data_of(self, folder: Path, model: Any) -> Dataset:
        """Open the data that a run was trained on, as it did."""
        card = read_card(folder)
        opened: Dataset = model.space_.open(self._workspace.source(card["data"]["source"]), card.get("chosen") or {}, gaps=True)
        return opened
