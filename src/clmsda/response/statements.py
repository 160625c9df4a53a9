"""What the reader says of lesions beyond what was measured: a response is a reading, not a calculation alone.

A lesion is named by its label in the file of a time point: "2" in the baseline, "1:4" is lesion 4 of follow-up 1.
Where there is one follow-up, its number may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from clmsda.errors import InputError
from clmsda.images.scan_facts import parse_date

Place = tuple[int, int]
"""A time point's number and a label: of the baseline for followed lesions, of the follow-up for others."""

LUNG, NODE = "lung", "node"
_NODES = {"node", "nodes", "lymph node", "lymph nodes", "ln"}


class StatementError(InputError):
    """A statement that cannot be read, or that contradicts what was measured."""


@dataclass(frozen=True)
class Link:
    """Lesions of one follow-up that are lesions of the baseline: one as two (split), or two as one (merged)."""

    follow_up: int
    found: tuple[int, ...]
    baseline: tuple[int, ...]


@dataclass(frozen=True)
class Statements:
    """organs: of baseline lesions (time point 0) and of new ones. targets: chosen by the reader, else by size.

    gone, too_small, progressing: baseline lesions at a follow-up: disappeared; visible, but too small to
    measure; a non-target lesion in unequivocal progression. new: lesions that no file holds, each with its
    follow-up and description. not_new: lesions of a follow-up's file that do not count as new.
    """

    organs: Mapping[Place, str] = field(default_factory=dict)
    targets: tuple[int, ...] = ()
    links: tuple[Link, ...] = ()
    gone: frozenset[Place] = frozenset()
    too_small: frozenset[Place] = frozenset()
    progressing: frozenset[Place] = frozenset()
    new: tuple[tuple[int, str], ...] = ()
    not_new: frozenset[Place] = frozenset()


def organ_name(text: str) -> str:
    """An organ as it is compared: lower case, "node" for every spelling of lymph node."""
    name = " ".join(text.lower().replace("_", " ").split())
    return NODE if name in _NODES else name


def parse_organs(texts: Iterable[str], follow_ups: int) -> dict[Place, str]:
    """LABEL=ORGAN of baseline lesions, N:LABEL=ORGAN of new ones. Raises StatementError."""
    organs: dict[Place, str] = {}
    for text in texts:
        place, equals, name = text.partition("=")
        if not equals or not organ_name(name):
            raise StatementError(f"--organ expects LABEL=NAME, such as 2=node or 1:4=liver, found {text!r}")
        organs[_place(place, "--organ", follow_ups, default=0)] = organ_name(name)
    return organs


def parse_places(texts: Iterable[str], option: str, follow_ups: int) -> frozenset[Place]:
    """[N:]LABEL of lesions at follow-ups. Raises StatementError."""
    return frozenset(_place(text, option, follow_ups) for text in texts)


def parse_labels(texts: Iterable[str], option: str) -> tuple[int, ...]:
    """LABEL of baseline lesions. Raises StatementError."""
    return tuple(_place(text, option, 0, default=0)[1] for text in texts)


def parse_links(texts: Iterable[str], follow_ups: int) -> tuple[Link, ...]:
    """[N:]FOUND=BASELINE, with + between several labels of a side: 2+4=2 split, 2=2+3 merged. Raises StatementError."""
    links = []
    for text in texts:
        number, rest = _numbered(text, "--same", follow_ups)
        match = re.fullmatch(r"(\d+(?:\+\d+)*)=(\d+(?:\+\d+)*)", rest.replace(" ", ""))
        sides = [tuple(map(int, side.split("+"))) for side in match.groups()] if match else []
        if not sides or min(map(len, sides)) > 1 or any(len(set(side)) < len(side) for side in sides):
            raise StatementError(
                "--same expects a follow-up's label and the baseline's, such as 3=2, 1:2+4=2 (lesion 2 has split) "
                f"or 1:2=2+3 (lesions 2 and 3 have merged), found {text!r}"
            )
        links.append(Link(number, *sides))
    return tuple(links)


def parse_new(texts: Iterable[str], follow_ups: int) -> tuple[tuple[int, str], ...]:
    """[N:]DESCRIPTION of new lesions that no file holds. Raises StatementError."""
    found = [_numbered(text, "--new-lesion", follow_ups) for text in texts]
    if any(not text for _, text in found):
        raise StatementError("--new-lesion expects a description, such as 'liver, segment 4'; found none")
    return tuple(found)


def parse_dates(texts: Iterable[str], files: int) -> dict[int, date]:
    """N:DATE of time points, 0 the baseline. Raises StatementError."""
    dates = {}
    for text in texts:
        number, colon, day = text.partition(":")
        when = parse_date(day)
        if not (colon and number.isdecimal() and int(number) < files and when):
            raise StatementError(
                f"--date expects N:YYYY-MM-DD with N from 0 (the baseline) to {files - 1}, found {text!r}"
            )
        dates[int(number)] = when
    return dates


def _place(text: str, option: str, follow_ups: int, default: int | None = None) -> Place:
    number, label = _numbered(text, option, follow_ups, default)
    if not label.isdecimal():
        raise StatementError(f"{option} expects the label of a lesion, such as 2 or 1:2, found {text!r}")
    return number, int(label)


def _numbered(text: str, option: str, follow_ups: int, default: int | None = None) -> tuple[int, str]:
    """The follow-up's number and the rest of a statement; the number may be missing where there is one follow-up."""
    number, colon, rest = text.partition(":")
    if colon and number.strip().isdecimal():
        if not 1 <= int(number) <= follow_ups:
            raise StatementError(f"{option} {text!r}: there is no follow-up {number.strip()}, only 1 to {follow_ups}")
        return int(number), rest.strip()
    if default is None and follow_ups > 1:
        raise StatementError(
            f"{option} {text!r}: say at which of the {follow_ups} follow-ups, such as 1:{text.strip()}"
        )
    return 1 if default is None else default, text.strip()
