"""Options that several commands share, and how results are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clmsda.files import OutputError, replacing

if TYPE_CHECKING:
    from rich.table import Table


class Frame(StrEnum):
    """In which coordinates prompts are given."""

    LPS = "lps"
    RAS = "ras"
    INDEX = "index"


Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where the network runs; auto takes the fastest here.")
]
ModelName = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped model by name, or a .safetensors file.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the measurements as JSON; - prints them.")
]

STDOUT = Path("-")


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while something takes its time; silent where stderr is no terminal.

    Gives a function that says how far it is.
    """
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(text)) as spinner:
        yield lambda more: spinner.update(escape(f"{text}: {more}"))


def show(table: Table) -> None:
    """Print a table on stdout, never cutting a number off where stdout is no terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def new_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output whose name does not say what it is. Raises OutputError."""
    if not path.name.lower().endswith(tuple(suffixes)):
        raise OutputError(f"cannot write {path}: its name must end in one of {', '.join(suffixes)}")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON atomically, or print it where `path` is -."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if path == STDOUT:
        typer.echo(text, nl=False)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
