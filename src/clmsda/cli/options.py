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
from clmsda.shipped import DEFAULT

if TYPE_CHECKING:
    from rich.table import Table

    from clmsda.geometry import Grid
    from clmsda.prompts import Correction, Prompt


class Frame(StrEnum):
    """In which coordinates prompts are given."""

    LPS = "lps"
    RAS = "ras"
    INDEX = "index"


Ct = Annotated[Path, typer.Argument(metavar="CT", help="DICOM folder, zip of one, NIfTI, NRRD or MHA.")]
OneSeries = Annotated[
    str | None, typer.Option("--series", metavar="UID", help="Which CT series, where the folder holds several.")
]
Points = Annotated[
    list[str] | None, typer.Option(metavar="X,Y,Z", help="A point inside a tumor. Repeat for several lesions.")
]
Lines = Annotated[
    list[str] | None, typer.Option(metavar="X1,Y1,Z1,X2,Y2,Z2", help="Both ends of a tumor's long diameter.")
]
DrawnIn = Annotated[
    list[Path] | None,
    typer.Option("--recist-from", metavar="FILE", help="A reader's lines: a DICOM SR (TID 1500) or GSPS of this CT."),
]
Boxes = Annotated[list[str] | None, typer.Option(metavar="X1,Y1,Z1,X2,Y2,Z2", help="Two opposite corners of a box.")]
Insides = Annotated[
    list[str] | None, typer.Option("--inside", metavar="X,Y,Z", help="A correction: a point that the mask must hold.")
]
Outsides = Annotated[
    list[str] | None, typer.Option("--outside", metavar="X,Y,Z", help="A correction: a point that it must not hold.")
]
PromptFrame = Annotated[
    Frame, typer.Option(help="Coordinates of prompts: LPS or RAS mm, or column,row,slice counted from 0.")
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where the network runs; auto takes the fastest here.")
]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="auto|openvino|torch",
        help="What computes it: auto is torch on a GPU, if both are here, and else OpenVINO. torch is the extra train.",
    ),
]
DEFAULT_MODEL = DEFAULT
ModelName = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped model by name, or a .safetensors file.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the measurements as JSON; - prints them.")
]

MaskOut = Annotated[
    Path, typer.Option("-o", "--output", metavar="MASK", help="Mask to write: .nii.gz, .nii, .nrrd or .mha.")
]
Preview = Annotated[
    Path | None,
    typer.Option("--preview", metavar="PICTURE", help="Picture of three planes with contour and axes (.png ...)."),
]
Anonymize = Annotated[
    bool,
    typer.Option(
        "--anonymize",
        help="Leave what leads back to the patient out of JSON, picture, mask. DICOM objects keep it: they must.",
    ),
]
DicomSeg = Annotated[
    Path | None,
    typer.Option("--dicom-seg", metavar="FILE", help="Write a DICOM segmentation (.dcm), one segment each."),
]
Rtstruct = Annotated[
    Path | None, typer.Option("--rtstruct", metavar="FILE", help="Write an RT structure set (.dcm), one ROI each.")
]
Sr = Annotated[
    Path | None,
    typer.Option("--sr", metavar="FILE", help="Write a DICOM measurement report (.dcm); it needs --dicom-seg."),
]
LabelMap = Annotated[
    bool, typer.Option("--labelmap", help="Make the segmentation a label map: smaller, but older archives refuse it.")
]

STDOUT = Path("-")


def prompts_of(
    point: Sequence[str] | None,
    recist: Sequence[str] | None,
    box: Sequence[str] | None,
    frame: Frame,
    *,
    inside: Sequence[str] | None = None,
    outside: Sequence[str] | None = None,
    refine: bool = False,
    drawn: bool = False,
) -> Callable[[Grid], list[Prompt | Correction]]:
    """What gives the prompts once the CT's grid is known: points, then lines, then boxes, then corrections.

    refine: whether there is a mask to start from, which needs no other prompt. drawn: whether lines come from a file.
    Raises typer.BadParameter for none at all, and for corrections beside prompts of several lesions.
    """
    given = {"point": point, "recist": recist, "box": box}
    texts = [(text, kind) for kind, several in given.items() for text in several or ()]
    corrections = [
        (text, kind) for kind, several in (("inside", inside), ("outside", outside)) for text in several or ()
    ]
    if not texts and not refine and not drawn:
        raise typer.BadParameter("say where the tumor is: give at least one --point, --recist or --box")
    if (len(texts) > 1 or drawn) and (corrections or refine):
        raise typer.BadParameter(
            f"--inside, --outside and --refine are about one lesion: expected one --point, --recist or --box beside "
            f"them, found {len(texts)}{' and --recist-from' * drawn}"
        )

    def parse(grid: Grid) -> list[Prompt | Correction]:
        from clmsda import prompts

        named: list[Prompt | Correction] = [prompts.parse(text, kind, frame.value, grid) for text, kind in texts]
        return named + [prompts.parse_correction(text, kind, frame.value, grid) for text, kind in corrections]

    return parse


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


def dicom_outputs(seg: Path | None, rtstruct: Path | None, sr: Path | None, labelmap: bool) -> dict[str, Path]:
    """The DICOM objects to write, by kind. Raises typer.BadParameter for options that need others, OutputError."""
    if sr is not None and seg is None:
        raise typer.BadParameter("the report of --sr refers to the segmentation: give --dicom-seg, too")
    if labelmap and seg is None:
        raise typer.BadParameter("--labelmap is a kind of segmentation: give --dicom-seg, too")
    outputs = {kind: path for kind, path in (("seg", seg), ("rtstruct", rtstruct), ("sr", sr)) if path is not None}
    for path in outputs.values():
        check_suffix(path, [".dcm"])
    return outputs


def check_places(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Refuse outputs that would overwrite each other, an input, or a slice of a CT. Raises OutputError.

    inputs: by what they are called in the message.
    """
    paths = list(outputs.values())
    for number, path in enumerate(paths):
        if any(path.resolve() == other.resolve() for other in paths[:number]):
            raise OutputError(f"cannot write {path} twice: give every output its own name")
        for name, given in inputs.items():
            if path.exists() and given.exists() and path.samefile(given):
                raise OutputError(f"cannot write {path}: it is {name} itself; choose another name")
        if path.suffix == ".dcm" and path.is_file() and _is_ct(path):
            raise OutputError(f"cannot write {path}: there is a slice of a CT; choose another name")


def _is_ct(path: Path) -> bool:
    """Whether a file is a DICOM image of a CT."""
    from clmsda.images.dicom_files import CT_CLASSES, is_dicom, load

    return is_dicom(path) and load(path).sop_class in CT_CLASSES


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON atomically, or print it where `path` is -."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if path == STDOUT:
        typer.echo(text, nl=False)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
