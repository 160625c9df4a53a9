"""The one base class of everything that clmsda refuses, and the one way to hear what it only warns of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Input that cannot be used as it is.

    The message says, in one line, what was expected, what was found, where, and what to do.
    Subclasses live beside the code that raises them and name the reason; the command line prints
    the message without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Text of files and libraries as part of a line: spaces for line ends, escapes for what would move the cursor."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in " ".join(text.split())
    )


@contextmanager
def heard(say: Callable[[str], object] = lambda line: None, *, here: bool = False) -> Iterator[list[str]]:
    """The warnings of clmsda that are given within, a line each, repeated ones once.

    Input that is used although something about it deserves a word is warned of through `logging`
    (`logging.getLogger(__name__).warning`), which any thread may do and no filter of `warnings` hides.
    say: is called with each line as it comes. here: of what this thread says alone, where others read other files.
    """
    lines: list[str] = []
    listener = threading.get_ident()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = one_line(record.getMessage())
            if line not in lines and (not here or record.thread == listener):
                lines.append(line)
                say(line)

    handler = Lines(logging.WARNING)
    logger = logging.getLogger("clmsda")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
