"""What became of each row: a folder per row with its files and `outcome.json`, put in place whole, once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clmsda.batch.errors import BatchError
from clmsda.batch.table import Row
from clmsda.files import make_folder, replacing, temporary_folder

FILE = "outcome.json"
SETTINGS = "batch.json"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Outcome:
    """status: done or failed. reason: why it failed, or "". files: names in the row's folder."""

    name: str
    line: int
    status: str
    reason: str
    seconds: float
    patient: str = ""
    date: str = ""
    lesions: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def failed(row: Row, reason: str, seconds: float = 0.0) -> Outcome:
    return Outcome(row.name, row.line, FAILED, reason, round(seconds, 2), row.patient, row.date)


class Folder:
    """The output folder. settings: what the batch was begun with, which going on must not change.

    Raises BatchError for a folder that holds something else, or a batch of another table, model or frame.
    """

    def __init__(self, path: Path, settings: dict[str, str]) -> None:
        self.path, self.cases = path, path / "cases"
        if path.exists() and not (path / SETTINGS).is_file() and any(path.iterdir()):
            raise BatchError(f"{path} is not empty and holds no batch: give another folder")
        make_folder(self.cases)
        begun = path / SETTINGS
        if not begun.is_file():
            with replacing(begun) as temporary:
                temporary.write_text(json.dumps(settings, indent=1), encoding="utf8")
            return
        try:
            found = json.loads(begun.read_text(encoding="utf8"))
        except ValueError:
            found = None
        if found != settings:
            names = [key for key, value in settings.items() if not isinstance(found, dict) or found.get(key) != value]
            raise BatchError(
                f"{path} holds a batch with another {' and '.join(names) or 'set of settings'}: give another folder, "
                "or the same command as then"
            )

    def outcome(self, name: str) -> Outcome | None:
        """What became of a row; None while nothing has."""
        try:
            record = json.loads((self.cases / name / FILE).read_text(encoding="utf8"))
            for key in ("lesions", "warnings", "files"):
                record[key] = tuple(record[key])
            return Outcome(**record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            shutil.rmtree(self.cases / name, ignore_errors=True)  # damaged from outside: it is done again
            return None

    def put(self, outcome: Outcome, made: Path | None = None) -> None:
        """Put an outcome in place, with the files that were made for it; who comes second is not heard."""
        if made is None:
            with self.making() as empty:
                self.put(outcome, empty)
            return
        with (made / FILE).open("w", encoding="utf8") as file:
            json.dump(asdict(outcome), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.rename(made, self.cases / outcome.name)
        except OSError:
            if self.outcome(outcome.name) is None:
                raise

    @contextmanager
    def making(self) -> Iterator[Path]:
        """A folder to make files in; it is gone afterwards unless it was put in place. So are those of killed ones."""
        with temporary_folder(self.path) as path:
            path.chmod(0o755)
            yield path

    def retry(self) -> int:
        """Forget failures, so that they are tried again; returns how many."""
        count = 0
        for path in self.cases.iterdir():
            outcome = self.outcome(path.name)
            if outcome is not None and outcome.status == FAILED:
                shutil.rmtree(path)
                count += 1
        return count
