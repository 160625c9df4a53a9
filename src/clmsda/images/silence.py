"""The C libraries below ITK (MetaIO, libjpeg, OpenJPEG) write to the process's standard error, past Python and ITK.

What they say there, many times over, `clmsda` says once in its own words, or refuses.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_lock = threading.Lock()
_silent = 0
_stderr: int | None = None


@contextmanager
def silence() -> Iterator[None]:
    """Nothing reaches standard error until the last thread that is within has left. Give no warnings within."""
    global _silent, _stderr
    with _lock:
        _silent += 1
        if _silent == 1:
            with suppress(OSError):  # a process that has none
                _stderr = os.dup(2)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                os.close(null)
    try:
        yield
    finally:
        with _lock:
            _silent -= 1
            if _silent == 0 and _stderr is not None:
                os.dup2(_stderr, 2)
                os.close(_stderr)
                _stderr = None
