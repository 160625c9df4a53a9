"""A case: one damaged input, as a line of JSON."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

Edit = list[Any]
"""An operation's name, the file (`*`: all files of the sample), and what the operation takes: JSON values."""
Files = dict[str, bytes]
"""Content by path, relative to the folder of a case."""


@dataclass(frozen=True)
class Case:
    """edits: applied one after the other; one that no longer applies changes nothing."""

    reader: str
    sample: str
    edits: tuple[Edit, ...]

    def to_json(self) -> str:
        return json.dumps({"reader": self.reader, "sample": self.sample, "edits": list(self.edits)})

    @classmethod
    def from_json(cls, line: str) -> Case:
        values = json.loads(line)
        return cls(values["reader"], values["sample"], tuple(values["edits"]))

    def without(self, number: int) -> Case:
        return Case(self.reader, self.sample, self.edits[:number] + self.edits[number + 1 :])

    @property
    def command(self) -> str:
        """What repeats it."""
        return f"PYTHONPATH=src:tests python -m fuzz --replay {shlex.quote(self.to_json())}"
