"""Keep memory that one training step frees for the next one, on glibc.

By default glibc hands large freed blocks back to the system, which has to clear every page again when the next step asks
for the same activations. Raising two thresholds of ``malloc`` keeps them in the process.
"""

import ctypes
import functools
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_MMAP_THRESHOLD = 32 << 20
LARGEST_INT = (1 << 31) - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc's ``malloc`` to keep freed blocks for the rest of the process; return whether it listens.

    Blocks above 32 MiB still come from the system, as glibc allows no higher threshold. On other systems, and where
    another allocator is preloaded, nothing happens.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    kept = library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    return bool(library.mallopt(M_TRIM_THRESHOLD, LARGEST_INT) and kept)
