"""Kinds of data, one file each; add a kind here, or in another package with :func:`register_kind`."""

from pushforward.data.kinds.images import Images
from pushforward.data.kinds.kind import Channels, Drawing, FolderKind, Kind, Limits, Structure
from pushforward.data.kinds.registry import KINDS, kind_named, kind_of, register_kind
from pushforward.data.kinds.sets import Sets
from pushforward.data.kinds.signals import Signals
from pushforward.data.kinds.tables import Tables
from pushforward.data.kinds.tokens import Tokens
from pushforward.data.kinds.vectors import Vectors

__all__ = [
    "KINDS",
    "Channels",
    "Drawing",
    "FolderKind",
    "Images",
    "Kind",
    "Limits",
    "Sets",
    "Signals",
    "Structure",
    "Tables",
    "Tokens",
    "Vectors",
    "kind_named",
    "kind_of",
    "register_kind",
]
