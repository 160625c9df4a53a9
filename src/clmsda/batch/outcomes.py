"""What became of each row: a folder per row with its files and `outcome.json`, put in place whole, once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any

from clmsda.batch.errors import BatchError
from clmsda.batch.places import deliver, is_address, remove, writing
from clmsda.errors import one_line
from clmsda.files import LOCK, claimed, is_unfinished, make_folder, temporary_folder

FILE = "outcome.json"
SETTINGS = "batch.json"
DONE, FAILED = "done", "failed"
_MAKING = ".making-"


@dataclass(frozen=True)
class Outcome:
    """status: done or failed. reason: why it failed, or "". files: names in the row's folder.

    row: the digest of the row that it came of. wanted: what was to be made beside mask and measurements (`Wanted`).
    """

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
    row: str = ""
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """The output folder, or an address that is one: `begin` it, before anything is put into it."""

    path: Path

    @property
    def cases(self) -> Path:
        return self.path / "cases"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other command works in it meanwhile. At an address nobody can tell: there two do all twice.

        Raises BatchError where one does, and for a folder that holds something else, in which nothing is left then.
        """
        if self._settings() is None:
            self._check_empty()
        if is_address(self.path):
            yield
            return
        with claimed(make_folder(self.path)) as mine:
            if not mine:
                raise BatchError(f"another batch is at work in {self.path}: wait for it, or stop it")
            yield

    def begin(self, settings: dict[str, str]) -> dict[str, str]:
        """Make it, or go on with it. settings: what the batch was begun with, which going on must not change.

        Returns them with the batch's own name, `batch`, which no other batch has. Raises BatchError for a batch of
        another model or frame, or of a clmsda that did not keep which row an outcome came of.
        """
        if self._settings() is None:
            with writing(self.path / SETTINGS) as temporary:
                temporary.write_text(json.dumps({**settings, "batch": token_hex(8)}, indent=1), encoding="utf8")
        found = self.check(settings)
        if "batch" not in found:
            raise BatchError(f"{self.path} holds a batch of an earlier clmsda, which cannot go on: give another folder")
        if not is_address(self.path):
            make_folder(self.cases)
        return found

    def _check_empty(self) -> None:
        """Raise BatchError for a folder with anything that a command killed at its beginning does not leave."""
        if not self.path.exists():
            return
        for path in self.path.iterdir():
            bare = path.name == self.cases.name and path.is_dir() and not any(path.iterdir())
            if not (bare or path.name in (LOCK, SETTINGS) or is_unfinished(path)):
                raise BatchError(f"{self.path} is not empty and holds no batch: give another folder")

    def check(self, settings: dict[str, str]) -> dict[str, str]:
        """What the batch in it was begun with. Raises BatchError unless these settings are a part of that."""
        text = self._settings()
        if text is None:
            raise BatchError(f"expected a batch in {self.path}, found none: is it a folder that all machines share?")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        names = [key for key, value in settings.items() if not isinstance(found, dict) or found.get(key) != value]
        if not isinstance(found, dict) or names:
            raise BatchError(
                f"{self.path} holds a batch with another {' and '.join(names) or 'set of settings'}: give another "
                "folder, or the same command as then"
            )
        return found

    def _settings(self) -> str | None:
        try:
            return (self.path / SETTINGS).read_text(encoding="utf8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            return ""
        except Exception as error:
            if not is_address(self.path):
                raise
            raise BatchError(f"cannot read {self.path}: {one_line(str(error))[:300]}") from error

    def names(self) -> set[str]:
        """The rows that have something in it."""
        if not is_address(self.path):
            return {entry.name for entry in os.scandir(self.cases) if not entry.name.startswith(".")}
        return set(self._addresses())

    def outcome(self, name: str) -> Outcome | None:
        """What became of a row; None while nothing has."""
        try:
            return self._read(name, (self.cases / name / FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (NotADirectoryError, IsADirectoryError):
            remove(self.cases / name)
            return None

    def outcomes(self, names: Iterable[str]) -> dict[str, Outcome]:
        """What became of these rows, as far as anything has. From an address all are fetched at once."""
        if not is_address(self.path):
            return {name: found for name in names if (found := self.outcome(name))}
        cases: Any = self.cases
        paths = self._addresses()
        wanted = {name: paths[name] for name in names if name in paths}
        read = cases.fs.cat(list(wanted.values())) if wanted else {}
        return {name: found for name, path in wanted.items() if (found := self._read(name, read[path]))}

    def _addresses(self) -> dict[str, str]:
        """Of outcomes at an address, by their rows."""
        cases: Any = self.cases
        return {str(path).rsplit("/", 2)[-2]: path for path in cases.fs.glob(f"{cases.path}/*/{FILE}")}

    def _read(self, name: str, content: bytes) -> Outcome | None:
        try:
            record = json.loads(content)
            for key in ("lesions", "warnings", "files", "wanted"):
                record[key] = tuple(record[key])
            return Outcome(**record)
        except (ValueError, TypeError, KeyError):
            remove(self.cases / name)  # damaged from outside: it is done again
            return None

    def put(self, outcome: Outcome, made: Path | None = None) -> None:
        """Put an outcome in place, with the files that were made for it; who comes second is not heard.

        It takes the place of one of another row, or with other files wanted, which stays until then (`_outlasts`). At
        an address the outcome comes after its files, so that with it they are there.
        """
        if made is None:
            with self.making() as empty:
                self.put(outcome, empty)
            return
        with (made / FILE).open("w", encoding="utf8") as file:
            json.dump(asdict(outcome), file)
            file.flush()
            os.fsync(file.fileno())
        former = self.outcome(outcome.name)
        if former is None or not _outlasts(former, outcome):
            self._place(outcome, made, replaces=former is not None)

    def _place(self, outcome: Outcome, made: Path, replaces: bool) -> None:
        target = self.cases / outcome.name
        if is_address(self.path):
            if replaces:
                remove(target)
            for name in (*outcome.files, FILE):
                deliver(made / name, target / name)
            return
        former = made.with_name(f"{made.name}-former")
        try:
            if replaces:
                os.rename(target, former)
            os.rename(made, target)
        except OSError:  # another worker at the same row was faster
            if self.outcome(outcome.name) is None:
                raise
        remove(former)

    @contextmanager
    def making(self) -> Iterator[Path]:
        """A folder to make files in; it is gone afterwards unless it was put in place. So are those of killed ones.

        Each machine has its own place for them: where those of a cluster share files, but not the locks that tell
        living processes from killed ones, none takes away what another one is making.
        """
        parent = None if is_address(self.path) else make_folder(self.path / f"{_MAKING}{gethostname()}")
        with temporary_folder(parent) as path:
            path.chmod(0o755)
            yield path

    def tidy(self) -> None:
        """Once every row has its outcome, take away what was made for nothing."""
        if not is_address(self.path):
            for path in self.path.glob(f"{_MAKING}*"):
                remove(path)

    def forget(self, outcome: Outcome) -> None:
        """Forget what became of a row, so that it is tried again."""
        remove(self.cases / outcome.name)


def _outlasts(former: Outcome, outcome: Outcome) -> bool:
    """Whether an outcome that is there stays: the same one, and a result beside a failure to make more of it.

    Not a result that tells of a patient where one was wanted that does not.
    """
    if former.row != outcome.row:
        return False
    lost = former.status == DONE and outcome.status == FAILED
    anonymous = {"anonymize"} & set(former.wanted) == {"anonymize"} & set(outcome.wanted)
    return former.wanted == outcome.wanted or (lost and anonymous)
