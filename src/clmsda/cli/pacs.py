"""`clmsda pacs`: segment a series where it is filed; send and receive DICOM files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    STDOUT,
    Boxes,
    Device,
    Frame,
    Json,
    Lines,
    ModelName,
    Points,
    PromptFrame,
    Runtime,
    check_suffix,
    new_table,
    prompts_of,
    show,
    status,
    write_json,
)
from clmsda.cli.tables import show_lesions
from clmsda.files import make_folder, temporary_folder

if TYPE_CHECKING:
    from clmsda.serving.instances import Receipt
    from clmsda.serving.web import Server

FEW = 10
"""So many stored files of one kind are listed one by one."""

app = typer.Typer(help="Segment a series where it is filed; send and receive DICOM files.", no_args_is_help=True)

Url = Annotated[str, typer.Option(metavar="URL", help="The PACS's DICOMweb service, as http://HOST:PORT/dicom-web.")]
Series = Annotated[str, typer.Option(metavar="UID", help="SeriesInstanceUID.")]
Study = Annotated[
    str | None, typer.Option(metavar="UID", help="StudyInstanceUID, for a PACS that does not find series alone.")
]
Header = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Sent with every request, such as 'Authorization=Bearer TOKEN'. Repeatable. Else the login of the host in "
        "~/.netrc is used, which other users of this machine cannot see.",
    ),
]
Ca = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) to trust instead of the usual authorities.")
]
Timeout = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long a silence of the PACS is borne.")]
Retries = Annotated[
    int, typer.Option(min=0, max=20, help="How often to try again where it cannot be reached, is overloaded or fails.")
]
Files = Annotated[list[Path], typer.Argument(metavar="FILES", help="DICOM files, or folders of them.")]
Host = Annotated[str, typer.Option(metavar="HOST", help="Where the PACS listens for DICOM.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Its port there.")]
Title = Annotated[str, typer.Option("--aet", metavar="TITLE", help="Its AE title.")]
OwnTitle = Annotated[
    str, typer.Option("--own-aet", metavar="TITLE", help="The AE title by which it knows this sender.")
]


@app.command()
def segment(
    url: Url,
    series: Series,
    study: Study = None,
    point: Points = None,
    recist: Lines = None,
    box: Boxes = None,
    frame: PromptFrame = Frame.LPS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but store the objects.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the objects here, too: seg.dcm, rtstruct.dcm, sr.dcm.")
    ] = None,
    json: Json = None,
    model: ModelName = DEFAULT_MODEL,
    device: Device = "auto",
    runtime: Runtime = "auto",
    header: Header = None,
    ca: Ca = None,
    timeout: Timeout = 60.0,
    retries: Retries = 4,
) -> None:
    """Pull a CT series by DICOMweb, segment it, and store SEG, RTSTRUCT and SR beside it.

    Lesions get the labels 1, 2, ... in the order: points, RECIST lines, boxes.
    """
    from clmsda import models
    from clmsda.serving.dicomweb import store
    from clmsda.serving.instances import refuse_unstored
    from clmsda.serving.pacs import segment_series

    prompts = prompts_of(point, recist, box, frame)
    if json is not None and json != STDOUT:
        check_suffix(json, [".json"])
    server = _server(url, header, ca, timeout, retries)
    with status("Loading the model"):
        loaded = models.load(model, device, runtime=runtime)
    with temporary_folder() as folder, status(f"Series of {server.url}") as progress:
        done = segment_series(
            server,
            series,
            prompts,
            loaded,
            out or folder,
            study_uid=study,
            progress=progress,
        )
        receipts = () if dry_run else store(server, done.objects, done.listed.study_uid)
    if json is not None:
        write_json(done.report, json)
    if json != STDOUT:
        show_lesions(done.found)
        _show_receipts(receipts)
    if dry_run:
        names = ", ".join(one.modality for one in done.objects)
        typer.echo(f"dry run: {names} not stored{f', they are in {out}' if out else ''}", err=True)
    again = f"they are in {out}: clmsda pacs store {out} --url {url}" if out else "run it again"
    refuse_unstored(receipts, f"What is there stays there; for the rest, {again}")


@app.command()
def pull(
    url: Url,
    series: Series,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where its files go: a new folder, or one where it was begun.")
    ],
    study: Study = None,
    header: Header = None,
    ca: Ca = None,
    timeout: Timeout = 60.0,
    retries: Retries = 4,
) -> None:
    """Fetch a series of any kind by DICOMweb: its files, byte by byte."""
    from clmsda.serving.dicomweb import find_series, is_there, pull_into

    server = _server(url, header, ca, timeout, retries)
    with status(f"Series of {server.url}") as progress:
        listed = find_series(server, series, study)
        there = is_there(listed, out)
        count = pull_into(server, listed, out, lambda count: progress(f"{count} of {listed.images or '?'} files"))
    typer.echo(f"{count} {listed.modality} file{'s' * (count != 1)} in {out}{', all there already' * there}")


@app.command()
def store(
    files: Files, url: Url, header: Header = None, ca: Ca = None, timeout: Timeout = 60.0, retries: Retries = 4
) -> None:
    """Store DICOM files by DICOMweb, and say of each whether the PACS confirmed it."""
    from clmsda.serving import dicomweb
    from clmsda.serving.instances import read_instances, refuse_unstored

    server = _server(url, header, ca, timeout, retries)
    instances = read_instances(files)
    with status(f"Storing in {server.url}") as progress:
        receipts = dicomweb.store(server, instances, progress=lambda one: progress(str(one.instance)))
    _show_receipts(receipts)
    refuse_unstored(receipts, "What is there stays there: run it again for the rest")


@app.command()
def send(
    files: Files,
    host: Host,
    port: Port,
    aet: Title = "ANY-SCP",
    own_aet: OwnTitle = "CLMSDA",
    timeout: Timeout = 60.0,
    retries: Retries = 4,
) -> None:
    """Send DICOM files by DIMSE (C-STORE), and say of each whether the PACS confirmed it."""
    from clmsda.serving import dimse
    from clmsda.serving.instances import read_instances, refuse_unstored

    peer = dimse.Peer(host, port, aet, own_aet, timeout, retries)
    instances = read_instances(files)
    with status(f"Sending to {peer}") as progress:
        receipts = dimse.send(peer, instances, lambda one: progress(str(one.instance)))
    _show_receipts(receipts)
    refuse_unstored(receipts, "What is there stays there: run it again for the rest")


@app.command()
def echo(
    host: Host,
    port: Port,
    aet: Title = "ANY-SCP",
    own_aet: OwnTitle = "CLMSDA",
    timeout: Timeout = 60.0,
    retries: Retries = 0,
) -> None:
    """Ask a PACS by DIMSE (C-ECHO) whether it is there and knows us."""
    from clmsda.serving import dimse

    peer = dimse.Peer(host, port, aet, own_aet, timeout, retries)
    dimse.echo(peer)
    typer.echo(f"{peer} answers")


@app.command()
def receive(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Files go to FOLDER/SERIES/INSTANCE.dcm.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 11112,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address of the machine; 0.0.0.0 is all of them.")
    ] = "127.0.0.1",
    aet: Annotated[str, typer.Option("--aet", metavar="TITLE", help="This receiver's AE title.")] = "CLMSDA",
    timeout: Timeout = 30.0,
) -> None:
    """Take what is sent by DIMSE (C-STORE) until Ctrl-C, and keep it as files. Answers a C-ECHO, too.

    Whoever reaches the port can send: by itself it listens to this machine alone.
    """
    from threading import Event

    from clmsda.serving.dimse import receiving

    kept: list[Path] = []
    make_folder(out)
    with suppress(KeyboardInterrupt), status("Listening") as progress:

        def keep(path: Path) -> None:
            kept.append(path)
            progress(f"{len(kept)} files")

        with receiving(out, host=host, port=port, title=aet, timeout_s=timeout, kept=keep) as listening:
            typer.echo(f"{aet} listens at {host}:{listening}; Ctrl-C ends it")
            try:
                Event().wait()
            finally:
                series = len({path.parent for path in kept})
                typer.echo(f"{len(set(kept))} files of {series} series in {out}")


def _server(url: str, headers: Sequence[str] | None, ca: Path | None, timeout: float, retries: int) -> Server:
    from clmsda.serving.web import Server, parse_header

    return Server(url, tuple(parse_header(text) for text in headers or ()), ca, timeout, retries)


def _show_receipts(receipts: Sequence[Receipt]) -> None:
    """One row for each object on stdout: whether the PACS holds it. What is stored without a remark is counted."""
    if not receipts:
        return
    plain = Counter(one.instance.modality for one in receipts if one.stored and not one.words)
    counted = {modality for modality, count in plain.items() if count > FEW}
    rows = [[f"{count} {modality} files", "stored", ""] for modality, count in plain.items() if modality in counted]
    for one in receipts:
        if not one.stored or one.words or one.instance.modality not in counted:
            rows.append([str(one.instance), "stored" if one.stored else "not stored", one.words])
    show(new_table(["object", "in the PACS", ""], rows))
