"""Tell the C library's allocator to give memory back, or to keep it: a setting of the process.

**Giving it back.** glibc keeps what was freed, in as many arenas as there are threads, and raises
its threshold for giving memory back with every large block that is freed. Runtimes that read a
model, rewrite it and free the first copy leave that copy in the process. Measured on ResNet-50 in
ONNX Runtime, its weights mapped: 228 MB at most as it comes, 174 MB with these two settings
(docs/decisions/0021).

**Keeping it.** Blocks above 32 MiB, which is as high as glibc's own threshold rises, are mapped
from the kernel when they are asked for and given back when they are freed. The kernel then fills
every page with zeros, one fault each, again in every step of a training whose activations are that
large: 0.9 million faults and 1.9 of 4.5 CPU seconds of a step in a U-Net (docs/decisions/0029).
What is kept may as well lie in large pages, of which processors remember where more memory is:
another 10% of the same step on an Intel Xeon.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from functools import cache

import psutil

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# What glibc's threshold is before it begins to rise.
TRIM_BYTES = 128 * 1024
# As the unsigned number that glibc makes of it, the largest there is.
_NEVER = -1
# madvise(2), and the share of the memory that is free which the heap may fill with large pages.
_MADV_HUGEPAGE = 14
_HUGE_SHARE = 0.5


@cache
def has_mallopt() -> bool:
    """Whether the C library of this process can be told (glibc can, musl and others cannot)."""
    try:
        return hasattr(ctypes.CDLL(None), "mallopt")
    except (OSError, TypeError):
        return False


def make_frugal() -> bool:
    """Use one arena and give memory back early, from now on; whether the library took it.

    It applies to the process and is not taken back. Where there is no ``mallopt`` nothing happens:
    results are the same, more memory is used.
    """
    return _set({_M_TRIM_THRESHOLD: TRIM_BYTES, _M_ARENA_MAX: 1})


def keep_memory() -> bool:
    """Take blocks of every size from the heap and never shrink it; whether the library took it.

    One arena, because all others end at 64 MiB and map what is larger. Where the kernel has large
    pages on request, the heap asks for them. It applies to the process and those that it forks,
    and is not taken back. Results are the same; the process keeps the most that it ever had.
    """
    taken = _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: 1})
    if taken:
        _ask_for_large_pages(int(_HUGE_SHARE * psutil.virtual_memory().available))
    return taken


def _ask_for_large_pages(size: int) -> None:
    """Grow the heap by so many bytes of addresses, which take no memory, in large pages.

    Where the kernel refuses either, as for a process that may not have so much, nothing changes.
    """
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    start = library.malloc(ctypes.c_size_t(size))
    if not start:
        return
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
    library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    # Kept, as the heap never shrinks.
    library.free(ctypes.c_void_p(start))


def give_back() -> bool:
    """Give the kernel what was freed, once; whether the library did.

    What is asked for next then shows in the resident memory, and does not fill old gaps first.
    """
    if not has_mallopt():
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "malloc_trim") and bool(library.malloc_trim(0))


def _set(settings: Mapping[int, int]) -> bool:
    if not has_mallopt():
        return False
    library = ctypes.CDLL(None)
    taken = [library.mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)
