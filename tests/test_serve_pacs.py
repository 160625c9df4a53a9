"""`clmsda serve` beside a real PACS: a series comes from it by its UID, and what was found goes to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import orthanc
import pytest
from dicom_series import write_series
from half_tissue import Ball, lung, save_model
from pydicom import dcmread
from serve_process import Serving, serving

from clmsda.serving.dicomweb import store
from clmsda.serving.instances import read_instances
from clmsda.serving.web import Server

pytestmark = pytest.mark.skipif(orthanc.MISSING is not None, reason=str(orthanc.MISSING))

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)


@pytest.fixture(scope="module")
def pacs() -> Iterator[orthanc.Orthanc]:
    with orthanc.running() as server:
        yield server


@pytest.fixture(scope="module")
def series(pacs: orthanc.Orthanc, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sent")
    paths = write_series(folder, lung(ONE, shape=(40, 48, 48)))
    assert all(one.stored for one in store(Server(pacs.url), read_instances([folder])))
    return str(dcmread(paths[0]).SeriesInstanceUID)


@pytest.fixture(scope="module")
def served(pacs: orthanc.Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("beside")
    with serving("--pacs", pacs.url, "--model", save_model(folder), state=folder) as running:
        yield running


def test_a_series_comes_and_objects_go(served: Serving, series: str, pacs: orthanc.Orthanc) -> None:
    post = served.client.post
    assert served.client.get("/api/desk").json()["pacs"]
    key = served.job(post("/api/open", json={"pacs": {"series": series}}))["id"]
    label = served.job(post(f"/api/ct/{key}/prompt", json={"said": {"kind": "Point", "lps_mm": [-20, 0, 0]}}))["label"]
    served.client.patch(f"/api/ct/{key}/lesions/{label}", json={"accepted": True})
    written = served.job(post(f"/api/ct/{key}/save", json={"kinds": ["sr.dcm", "rtstruct.dcm"], "to": "pacs"}))
    assert [one.split(" ")[0] for one in written["written"]] == ["SEG", "RTSTRUCT", "SR"]
    modalities = {pacs.json(f"series/{one}")["MainDicomTags"]["Modality"] for one in pacs.json("series")}
    assert modalities == {"CT", "SEG", "RTSTRUCT", "SR"} and len(pacs.json("studies")) == 1
    assert "not mask.nii.gz" in served.refused(
        post(f"/api/ct/{key}/save", json={"kinds": ["mask.nii.gz"], "to": "pacs"})
    )
    served.client.delete(f"/api/ct/{key}")


@pytest.mark.parametrize(("uid", "match"), [("1.2.3.4", "no series"), ("../../system", "UID"), ("", "UID")])
def test_what_the_pacs_does_not_hold_is_refused(served: Serving, uid: str, match: str) -> None:
    assert match in served.refused(served.client.post("/api/open", json={"pacs": {"series": uid}}))


def test_a_pacs_that_stands_still_stops_nobody_else(served: Serving, series: str, pacs: orthanc.Orthanc) -> None:
    pacs.stop()
    try:
        job = served.client.post("/api/open", json={"pacs": {"series": series}}).json()["job"]
        assert served.client.get("/api/desk").status_code == 200
        assert not served.client.get(f"/api/jobs/{job}").json()["done"]
        refusal = served.client.post("/api/upload?name=x.nii.gz", content=b"no gzip")
        assert "x.nii.gz" in served.refused(refusal)
    finally:
        os.kill(pacs.process.pid, signal.SIGCONT)
    opened = served.record(job)["result"]["id"]
    served.client.delete(f"/api/ct/{opened}")
