"""The upkeep of a run: memory that was freed goes back to the system."""

import ctypes

import psutil
import pytest

from recognizer.live.watch import return_free_memory

MIB = 1 << 20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_back_to_the_system():
    process, libc = psutil.Process(), ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = []
    for _ in range(64 * 1024):  # 64 MiB of the heap, too small for pages of their own
        blocks.append(libc.malloc(1024))
        ctypes.memset(blocks[-1], 1, 1024)
    small = libc.malloc(32)  # lives on, above them: the heap cannot shrink by itself
    for block in blocks:
        libc.free(block)
    before = process.memory_info().rss
    return_free_memory()
    libc.free(small)
    assert before - process.memory_info().rss > 48 * MIB
