"""The CTs that were named at the start, and the series that each holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clmsda.errors import InputError, heard
from clmsda.images import list_series
from clmsda.images.errors import MissingPath
from clmsda.images.voxel_files import is_voxel_file


@dataclass(eq=False)
class Given:
    """A path and, once it was looked through, its CT series. listed: set then. fault: why it cannot be read."""

    path: Path
    series: list[dict[str, Any]] | None = None
    fault: str = ""
    listed: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """List the CT series of DICOM files; other files hold one CT without a name."""
        try:
            if not is_voxel_file(self.path):
                self.series = series_in(self.path)
        except InputError as error:
            self.fault = " ".join(str(error).split())
        except OSError as error:
            self.fault = f"{self.path.name} cannot be read: {error.strerror}"
        finally:
            self.listed.set()

    def to_json(self, index: int) -> dict[str, Any]:
        record = {"index": index, "name": self.path.name or str(self.path), "series": self.series}
        return record | {"listed": self.listed.is_set(), "error": self.fault or None}


def look_through(given: Iterable[Given]) -> None:
    for one in given:
        one.look()


def series_in(path: Path) -> list[dict[str, Any]]:
    """The CT series of a DICOM folder, file or .zip. Raises InputError."""
    with heard(here=True):
        found = list_series(path)
    return [
        {"uid": one.uid, "description": one.description, "slices": one.images, "modality": one.modality}
        for one in found
        if one.is_ct
    ]


def given_as(paths: Iterable[Path]) -> tuple[Given, ...]:
    """The CTs of paths: of a folder, each voxel file in it, and the folder itself where it holds anything else.

    Raises MissingPath.
    """
    found: dict[Path, Given] = {}
    for path in paths:
        if not path.exists():
            raise MissingPath(f"there is no file or folder {path}: name a CT, or none to choose one in the page")
        for one in _within(path.resolve()):
            found.setdefault(one, Given(one))
    return tuple(found.values())


def _within(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    images = [one for one in inside if one.is_file() and is_voxel_file(one)]
    return images if len(images) == len(inside) and images else [*images, path]
