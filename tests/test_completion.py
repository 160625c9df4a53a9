"""Tab completion, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
BASH = """
eval "$(_CLMSDA_COMPLETE=source_bash clmsda)"
COMP_WORDS=({words}) COMP_CWORD={last}
$(complete -p clmsda | sed 's/.*-F \\([^ ]*\\).*/\\1/') clmsda
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "_CLMSDA_COMPLETE=source_fish clmsda | source; complete --do-complete '{line}'"
ZSH = """
autoload -Uz compinit; compinit -D -u
eval "$(_CLMSDA_COMPLETE=source_zsh clmsda)"
print $_comps[clmsda]
_TYPER_COMPLETE_ARGS='{line}' _CLMSDA_COMPLETE=complete_zsh clmsda
"""


def said(shell: str, script: str, home: Path) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    environment = os.environ | {"PATH": PATH, "HOME": str(home)}
    plain = {"bash": ["--norc", "--noprofile"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    done = subprocess.run([shell, *plain, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [("clmsda se", {"segment", "serve"}), ("clmsda info ser", {"series"}), ("clmsda segment --prev", {"--preview"})],
)
def test_in_bash(line: str, offered: set[str], tmp_path: Path) -> None:
    words = line.split()
    assert set(said("bash", BASH.format(words=line, last=len(words) - 1), tmp_path).split()) == offered


def test_in_fish(tmp_path: Path) -> None:
    lines = said("fish", FISH.format(line="clmsda se"), tmp_path).splitlines()
    assert {line.split("\t")[0] for line in lines} == {"segment", "serve"}


def test_in_zsh(tmp_path: Path) -> None:
    function, *rest = said("zsh", ZSH.format(line="clmsda se"), tmp_path).splitlines()
    assert function == "_clmsda_completion"
    assert '"segment"' in "\n".join(rest) and '"serve"' in "\n".join(rest) and '"measure"' not in "\n".join(rest)
