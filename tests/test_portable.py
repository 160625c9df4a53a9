"""On the way of `segment` nothing asks for POSIX: it runs where modules, calls and habits of Windows are put in place.

No test here runs on Windows or macOS. This one takes from Python what Windows lacks, and renames no file that is open.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clmsda import images
from clmsda.cli.demo import SHIPPED
from clmsda.measurements import measure

LIKE_WINDOWS = """
import os, signal, sys
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # what is None here cannot be imported
for name in ("fork", "geteuid", "getuid", "getpgid", "killpg", "mkfifo", "nice", "pread", "register_at_fork",
             "sched_getaffinity", "setsid", "statvfs", "sysconf", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "alarm", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
replace, open_folder = os.replace, os.open

def replace_closed(source, target, **more):
    here = os.path.realpath(source)
    held = [n for n in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{n}") == here]
    if held:
        raise PermissionError(13, "it is open", source)
    replace(source, target, **more)

def open_files_alone(path, *arguments, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "it is a folder", path)
    return open_folder(path, *arguments, **more)

os.replace, os.open = replace_closed, open_files_alone
from clmsda.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for open files in /proc")
def test_segment_asks_for_nothing_that_windows_lacks(tmp_path: Path) -> None:
    x, y, z = measure(images.read_mask(SHIPPED / "truth.nii.gz")).center_mm
    outputs = {"-o": "mask.nii.gz", "--json": "found.json", "--preview": "picture.png"}
    given = [text for option, name in outputs.items() for text in (option, str(tmp_path / name))]
    command = [
        sys.executable,
        "-c",
        LIKE_WINDOWS,
        "segment",
        str(SHIPPED / "ct.nii.gz"),
        f"--point={x},{y},{z}",
        *given,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.values())
    assert images.read_mask(tmp_path / "mask.nii.gz").voxels.any()
