"""A study in a real Orthanc: a phantom's CT; its tumor as a session of `clmsda serve` saves it as SEG, RTSTRUCT, SR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orthanc
from dicom_series import write_series
from pydicom import Dataset, dcmread
from serve_process import Serving, serving

from clmsda.geometry import Volume
from clmsda.images import read_mask
from clmsda.measurements import measure
from clmsda.phantoms import sample, scan
from clmsda.serving.dicomweb import store
from clmsda.serving.instances import read_instances
from clmsda.serving.web import Server

NAME = "Läsion links"
WINDOW_HU = (-350, 1500)
"""Center and width: with lung and soft tissue."""


@dataclass(frozen=True)
class Study:
    """What the session holds, which the screen is compared with. lesion: as the server tells it, mask: its voxels."""

    uid: str
    ct: Volume
    mask: Volume
    lesion: dict[str, Any]
    dicom_web: str


@contextmanager
def filed(folder: Path) -> Iterator[Study]:
    ct, truth = scan(sample(34), matrix=256)
    ct = ct.crop((40, 0, 0), (140, 256, 256))  # the tumor's slices and some more: every one is loaded in every test
    series = dcmread(write_series(folder / "ct", ct, edit=_labeled)[0])
    with orthanc.running() as pacs:
        assert all(one.stored for one in store(Server(pacs.url), read_instances([folder / "ct"])))
        with serving("--pacs", pacs.url, state=folder / "state") as session:
            lesion = _read(session, str(series.SeriesInstanceUID), measure(truth).center_mm, folder / "mask.nii.gz")
        mask = read_mask(folder / "mask.nii.gz", grid=ct.grid)
        yield Study(str(series.StudyInstanceUID), ct, mask, lesion, pacs.url)


def _labeled(dataset: Dataset, _: int) -> None:
    dataset.PatientName, dataset.PatientID, dataset.SeriesDescription = "Phantom^34", "PHANTOM-34", "synthetic chest"
    dataset.WindowCenter, dataset.WindowWidth = WINDOW_HU


def _read(session: Serving, series_uid: str, click_mm: Any, mask: Path) -> dict[str, Any]:
    """A lesion clicked, named, accepted, and saved to the PACS; its voxels come by another way."""
    post = session.client.post
    key = session.job(post("/api/open", json={"pacs": {"series": series_uid}}))["id"]
    said = {"kind": "Point", "lps_mm": list(click_mm)}
    label = session.job(post(f"/api/ct/{key}/prompt", json={"said": said}))["label"]
    told = session.client.patch(f"/api/ct/{key}/lesions/{label}", json={"name": NAME, "accepted": True})
    session.job(post(f"/api/ct/{key}/save", json={"kinds": ["seg.dcm", "rtstruct.dcm", "sr.dcm"], "to": "pacs"}))
    mask.write_bytes(session.client.get(f"/api/ct/{key}/save/mask.nii.gz").content)
    (lesion,) = told.json()["lesions"]
    return dict(lesion)
