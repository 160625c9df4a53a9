"""`clmsda serve`: CTs in a browser, from a click to what a reading room takes. And what other viewers ask for."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import DEFAULT_MODEL, Device, ModelName, Runtime, status

if TYPE_CHECKING:
    from clmsda.models import Model
    from clmsda.serving.http.access import Access
    from clmsda.serving.web import Server

SHORTEST_KEY = 8
WORKERS = "clmsda-worker"
"""How the threads of the long work are called."""


def serve(
    cts: Annotated[
        list[Path] | None, typer.Argument(metavar="[CT]...", help="DICOM folders, zips, NIfTI, NRRD or MHA files.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 1527,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address of the machine; elsewhere only with --key.")
    ] = "127.0.0.1",
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="CLMSDA_KEY",
            help="What who asks must know, in the page and in other viewers. Else the page gets a new one each time.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Results may be written here, and sessions are kept here.")
    ] = None,
    pacs: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A DICOMweb service: series come from it, results may be stored in it."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Sent to the PACS with every request. Repeatable. Or use ~/.netrc."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) of the PACS to trust, not the usual ones.")
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    device: Device = "auto",
    runtime: Runtime = "auto",
    most_mb: Annotated[
        int, typer.Option(min=16, metavar="MB", help="Memory for CTs that are open; no upload may be larger.")
    ] = 2048,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the page in a browser.")] = False,
) -> None:
    """Show CTs in the browser; outline, correct, accept and save tumors there, until Ctrl-C.

    3D Slicer can use it, too: by its nnInteractive or MONAI Label extension. For research use only.
    """
    access = _access(host, key)
    from clmsda import models

    server = None if pacs is None else _pacs(pacs, header, ca)
    code = 0
    try:
        load = partial(models.load, model, device, runtime=runtime)
        _serve(cts or (), access, port, out, server, load, most_mb, no_open)
    except KeyboardInterrupt:
        pass
    except SystemExit as left:  # of a signal
        code = left.code if isinstance(left.code, int) else 1
    _leave(code)


def _access(host: str, key: str | None) -> Access:
    """Who may ask. Raises typer.BadParameter for an address that others reach without a key, or a key that is none."""
    _check_extra()
    from clmsda.serving.http.access import Access
    from clmsda.serving.http.running import is_loopback

    if key is not None and not (key.isascii() and key.isprintable() and " " not in key and key):
        raise typer.BadParameter("--key expects ASCII letters, digits and signs without spaces")
    if not is_loopback(host):
        if key is None or len(key) < SHORTEST_KEY:
            raise typer.BadParameter(
                f"--host {host} lets other machines ask: give a --key of at least {SHORTEST_KEY} characters (or "
                "CLMSDA_KEY), or leave --host out"
            )
        typer.echo(
            "warning: other machines can reach this server, without encryption: use it in a network that you trust, or "
            "behind a server that speaks https",
            err=True,
        )
    return Access(host=host) if key is None else Access(host=host, key=key, keyed=True)


def _leave(code: int) -> None:
    """End the command; at once where a network is still at work, whose threads would abort a Python that ends."""
    if any(thread.name.startswith(WORKERS) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _check_extra() -> None:
    """Raise MissingExtra unless the libraries of the server are installed."""
    from importlib.util import find_spec

    from clmsda.serving.errors import MissingExtra

    if find_spec("blosc2") is None:  # it takes seconds to import, and only some viewers need it
        raise MissingExtra(ImportError(name="blosc2"), "the server", "serve")
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error, "the server", "serve") from error


def _pacs(url: str, headers: Sequence[str] | None, ca: Path | None) -> Server:
    from clmsda.serving.web import Server, parse_header

    return Server(url, tuple(parse_header(text) for text in headers or ()), ca)


def _serve(
    cts: Sequence[Path],
    access: Access,
    port: int,
    out: Path | None,
    pacs: Server | None,
    load: Callable[[], Model],
    most_mb: int,
    no_open: bool,
) -> None:
    from dataclasses import replace

    from clmsda.serving.http import running
    from clmsda.serving.http.given import given_as, look_through
    from clmsda.serving.http.served import Served
    from clmsda.serving.sessions import Desk

    given = given_as(cts)
    with running.listen(access.host, port) as listening:
        access = replace(access, port=listening.getsockname()[1])
        with running.owned(running.state_folder(out)) as private:
            with status("Loading the model"):
                desk = Desk(load(), private.parent, most_mb=most_mb)
            served = Served(desk, private, given, out, pacs)
            served.files.submit("list", lambda say: look_through(given))
            _hush()
            running.run(served, access, listening, lambda: _say_where(access, no_open))


def _hush() -> None:
    """What is warned of while CTs are read, files' names among it, goes to the page and not to a log."""
    logging.getLogger("clmsda").handlers.clear()


def _say_where(access: Access, no_open: bool) -> None:
    import webbrowser

    host = f"[{access.host}]" if ":" in access.host else access.host
    address = f"http://{host}:{access.port}/?key={access.key}"
    typer.echo(f"clmsda listens at http://{host}:{access.port}; Ctrl-C ends it")
    typer.echo(f"open {address}")
    typer.echo("For research use only. Not for clinical decisions.")
    if not no_open:
        webbrowser.open(address)
