"""The memory of this process."""

import ctypes


def give_back() -> None:
    """Hand what was freed back to the system; blocks for milliseconds.

    glibc keeps it where it lies between what is still used, so that a process that works for weeks
    grows though it holds no more. Other allocators have no such call: there, nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
