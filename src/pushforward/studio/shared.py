"""What all pages of a studio share."""

from dataclasses import dataclass

from pushforward.studio.jobs import Queue
from pushforward.studio.loaded import Models
from pushforward.studio.workspace import Workspace

__all__ = ["Studio"]


@dataclass(frozen=True)
class Studio:
    """The folder, its queue, the models in memory, and the largest size of an upload."""

    workspace: Workspace
    queue: Queue
    models: Models
    upload_bytes: int
