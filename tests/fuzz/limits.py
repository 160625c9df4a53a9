"""What an input of a few kilobytes may take, and how that is found out. Linux only, as all of /proc is."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from types import FrameType

CPU_SECONDS = 10.0
"""Of all threads together: a busy machine makes no difference."""
HANGS_SECONDS, PATIENCE_SECONDS = 30.0, 600.0
"""After so much CPU time for one input, as in code that no signal interrupts, or so much time at all, the process is
killed."""
MEMORY_BYTES = 3 << 30
"""Address space above that of the process with everything imported and every sample read once."""


class TooSlow(BaseException):
    """No Exception, as readers may turn those into refusals."""


def limit_memory() -> None:
    """From now on, allocations beyond `MEMORY_BYTES` more than now fail."""
    now = 1024 * _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))


def start_clock() -> None:
    """`TooSlow` is raised after `CPU_SECONDS`, unless the clock is stopped before."""
    signal.signal(signal.SIGPROF, _ring)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


def stop_clock() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {CPU_SECONDS:g} s of CPU time")


def forget_peak() -> None:
    """Let `peak_mb` begin anew (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak is that of the whole run
        pass


def resident_mb() -> float:
    return _status("VmRSS") / 1024


def peak_mb() -> float:
    """Most memory that was resident since `forget_peak`."""
    return _status("VmHWM") / 1024


def _status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, 0 where it has ended (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
