"""Keep the memory that one training step frees for the next step, on glibc.

By default glibc returns large freed blocks to the system, which then has to clear every page again when the next step
allocates the same activations. Two higher thresholds of ``malloc`` keep them in the process.
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
    """Make glibc's ``malloc`` keep freed blocks for the rest of the process; return whether that succeeded.

    Blocks above 32 MiB still come from the system, because glibc allows no higher threshold. On other systems, and with
    another allocator preloaded, nothing changes.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    accepted = library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    return bool(library.mallopt(M_TRIM_THRESHOLD, LARGEST_INT) and accepted)
