"""What is freed goes back to the system: in a process of its own, which holds nothing else."""

import platform
import subprocess
import sys

import pytest

# Small objects between large ones that stay keep their pages from going back by themselves.
_SCRIPT = """
import ctypes, os
from mcp_hub.services.memory import give_back

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2

blocks = [libc.malloc(16_384) for _ in range(6_000)]
for block in blocks:
    ctypes.memset(block, 1, 16_384)
for at, block in enumerate(blocks):
    if at % 100:
        libc.free(block)
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_what_was_freed_goes_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) > 50
