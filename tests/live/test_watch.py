"""The upkeep of a run: memory that was freed goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

# A process of its own: what else ran before decides where the C library finds room.
SCRIPT = """
import ctypes
import psutil
from recognizer.live.watch import return_free_memory

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
print(before - process.memory_info().rss)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_back_to_the_system():
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(out.stdout) > 48 << 20
