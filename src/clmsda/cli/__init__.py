"""The command line: one command per file, each a thin skin over the same call in Python.

Commands import what they need when they run, so that `clmsda --help` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from clmsda.cli.background import background
from clmsda.cli.batch import batch
from clmsda.cli.cohort import app as cohort
from clmsda.cli.convert import convert
from clmsda.cli.demo import demo
from clmsda.cli.export import export
from clmsda.cli.find import find
from clmsda.cli.info import app as info
from clmsda.cli.measure import measure
from clmsda.cli.pacs import app as pacs
from clmsda.cli.phantom import phantom
from clmsda.cli.response import response
from clmsda.cli.segment import segment
from clmsda.cli.serve import serve
from clmsda.cli.study import app as study
from clmsda.cli.train import train
from clmsda.errors import InputError, heard, one_line
from clmsda.version import software

REFUSED, STOPPED, UNREAD, TERMINATED = 2, 130, 141, 143
"""Exit status for input that cannot be used (wrong options too), for Ctrl-C, for output that nobody reads, for kill."""

_NO_MEMORY = re.compile("out of memory|can't allocate memory|bad_alloc|bad allocation")  # torch's words, OpenVINO's
_NO_SHARED_MEMORY = re.compile("unable to (resize|write to|allocate shared memory)|insufficient shared memory")

_EXTRAS = {"torch": "train"}
"""What is installed on demand, by the extra that installs it; `clmsda.serving.errors` has more."""

app = typer.Typer(
    name="clmsda",
    help="Segments lung tumors of any size on chest CT: from one click to a measured 3-D mask. For research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (segment, find, serve, batch, measure, convert, response, phantom, background, train, export, demo):
    app.command()(command)
app.add_typer(cohort, name="cohort")
app.add_typer(study, name="study")
app.add_typer(pacs, name="pacs")
app.add_typer(info, name="info")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(software())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, or 2 with one line on stderr that says what to do.

    Set CLMSDA_DEBUG=1 to see where an error came from.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that unfinished files are taken away
    try:
        with own_words():
            status = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(STOPPED)
    except BrokenPipeError:
        _leave_unread()
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # typer has caught it, and would leave with 1
            _leave_unread()
        raise
    except Exception as error:
        message = _explain(error)
        if message is None or os.environ.get("CLMSDA_DEBUG"):
            raise
        if message:
            print(f"error: {message}", file=sys.stderr)
        sys.exit(REFUSED)
    sys.exit(status if isinstance(status, int) else 0)


def _leave_unread() -> NoReturn:
    """As `clmsda info | head` asks for; what is left in the buffer must go somewhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
    sys.exit(UNREAD)


@contextmanager
def own_words() -> Iterator[None]:
    """Warnings on stderr: clmsda's own, a line each; a library's only where CLMSDA_DEBUG or `python -W` asks."""
    if os.environ.get("CLMSDA_DEBUG") or sys.warnoptions:
        yield
        return
    silence = logging.NullHandler()  # without any handler, logging prints what libraries warn of
    logging.getLogger().addHandler(silence)
    try:
        with warnings.catch_warnings(), heard(lambda line: print(f"warning: {line}", file=sys.stderr)):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silence)


def _explain(error: Exception) -> str | None:
    """The line to print instead of a traceback; None for an error of clmsda's own, which keeps its traceback."""
    if isinstance(error, InputError):
        return str(error)
    if hasattr(error, "format_message"):  # typer's usage errors (their class moved between typer's releases)
        command = getattr(getattr(error, "ctx", None), "command_path", "clmsda")
        message = one_line(error.format_message())
        return f"{message} (see {command} --help)" if message else ""
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return f"this needs {error.name}, which is not installed: pip install 'clmsda[{_EXTRAS[error.name]}]'"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return "not enough memory: close other programs, or segment a smaller part of the CT"
    if isinstance(error, RuntimeError) and _NO_SHARED_MEMORY.search(str(error)):
        return "not enough shared memory for the processes that prepare samples: make room in it, or set data.workers=0"
    if isinstance(error, OSError) and error.strerror:
        remedy = "; make room, or choose another folder" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror) + remedy
    return None
