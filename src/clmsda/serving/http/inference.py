"""One inference of MONAI Label's protocol: clicks on an image in, a mask and its measurements out."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import read_mask, write_image, write_mask
from clmsda.images.orientation import onto
from clmsda.serving.http.answers import Answer, without
from clmsda.serving.http.bodies import BadRequest
from clmsda.serving.http.clicks import Clicks, outlined, said_by, started
from clmsda.serving.http.datastore import Datastore, Image
from clmsda.serving.http.foreign import checked, worked
from clmsda.serving.http.forms import Form
from clmsda.serving.sessions import Lesion, Session

MODEL = "clmsda"
OUTPUTS = ("", "all", "image", "json", "dicom_seg")

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Found:
    """A lesion, and what it was found in. stored: the grid of the image's own file. warnings: of that file."""

    lesion: Lesion
    session: Session
    stored: Grid
    name: str
    warnings: tuple[str, ...]

    @property
    def mask(self) -> Volume:
        volume = self.session.volume
        return onto(Volume(self.lesion.full(volume.grid), volume.grid, volume.source), self.stored)

    def to_json(self) -> dict[str, Any]:
        return {
            "label_names": {self.name: 1},
            "lesion": self.lesion.to_json(),
            "warnings": list(self.warnings),
            "model": self.session.model.version,
            "notice": "For research use only. Not for clinical decisions.",
        }


async def infer(request: Request, store: Datastore, image: Image, form: Form) -> Response:
    """Outline the lesion that the form's clicks name. Raises InputError."""
    output = request.query_params.get("output", "")
    if output not in OUTPUTS:
        raise BadRequest(f"expected an output of {', '.join(OUTPUTS[1:])}; found {output[:20]!r}")
    clicks = checked(Clicks, form.fields.get("params") or b"{}")
    if output == "dicom_seg" and not image.is_dicom:
        raise BadRequest("a DICOM SEG refers to the slices of a DICOM series, and this image is none: ask for an image")
    session = await worked(request, store.served.files, "open", lambda say: store.open(image))
    stored = image.grid or session.volume.grid
    start = form.file("label")
    said = said_by(clicks, stored, session.volume.grid) if start is None or _says(clicks) else []
    mask = None
    if start is not None:
        mask = await worked(request, store.served.files, "mask", lambda say: _read(start, stored))

    def work(say: Say) -> Lesion:
        if mask is None:
            return outlined(session, said, say)
        return started(session, onto(mask, session.volume.grid).voxels != 0, said, say)

    lesion = await worked(request, store.served.desk.worker, "prompt", work)
    warnings = store.served.desk.get(image.opened or "").warnings
    found = _Found(lesion, session, stored, clicks.label[:64], warnings)
    return await worked(request, store.served.files, "answer", lambda say: _answer(found, image, output))


def _says(clicks: Clicks) -> bool:
    return bool(clicks.foreground or clicks.roi)


def _read(path: Path, grid: Grid) -> Volume:
    try:
        return read_mask(path, grid=grid)
    except InputError as error:
        raise without(path.parent, error) from None


def _answer(found: _Found, image: Image, output: str) -> Response:
    if output == "json":
        return Answer(found.to_json())
    if output == "dicom_seg":
        return Response(_dicom(found, image), media_type="application/dicom", headers=_attached("dcm"))
    if output == "image":
        return Response(nifti(found.mask), media_type="application/gzip", headers=_attached("nii.gz"))
    boundary = secrets.token_hex(16)
    parts = (
        ('name="params"', "application/json", Answer(found.to_json()).body),
        (f'name="image"; filename="{_name("nii.gz")}"', "application/gzip", nifti(found.mask)),
    )
    content = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\nContent-Type: {kind}\r\n\r\n".encode()
        + bytes(part)
        + b"\r\n"
        for name, kind, part in parts
    )
    return Response(content + f"--{boundary}--\r\n".encode(), media_type=f"multipart/form-data; boundary={boundary}")


def _dicom(found: _Found, image: Image) -> bytes:
    from clmsda.dicom_objects import build_seg, read_source, write_dataset
    from clmsda.segmentation import delivery

    segmentation = found.session.found([found.lesion])
    if not found.lesion.now.measurement:
        raise InputError(f"nothing was found, so there is no DICOM SEG: {', '.join(found.lesion.now.warnings)}")
    try:
        source = read_source(image.path, series=image.series)
    except InputError as error:
        raise without(image.path.parent, error) from None
    findings = delivery.findings(segmentation, found.session.volume, source.series_uid)
    with tempfile.TemporaryDirectory(prefix="clmsda-") as folder:
        write_dataset(build_seg(source, findings), Path(folder) / "seg.dcm")
        return (Path(folder) / "seg.dcm").read_bytes()


def nifti(volume: Volume) -> bytes:
    """A mask or a CT as the bytes of a .nii.gz."""
    with tempfile.TemporaryDirectory(prefix="clmsda-") as folder:
        path = Path(folder) / "image.nii.gz"
        (write_mask if volume.voxels.dtype.kind in "bu" else write_image)(volume, path)
        return path.read_bytes()


def _attached(suffix: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{_name(suffix)}"'}


def _name(suffix: str) -> str:
    """Viewers keep answers under these names in one folder: no two are the same."""
    return f"{MODEL}-{secrets.token_hex(6)}.{suffix}"
