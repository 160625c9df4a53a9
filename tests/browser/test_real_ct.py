"""A patient's CT as TCIA delivers it, where it is at hand: opened as DICOM, its tumor clicked."""

from __future__ import annotations

import time
from pathlib import Path

from chromium import tab
from playwright.sync_api import Browser
from serve_process import serving

TUMOR_MM = (82.5, -199.8, -459.5)


def test_a_patient_is_opened_and_the_tumor_outlined(shared_data: Path, browser: Browser, tmp_path: Path) -> None:
    folder = shared_data / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001"
    with serving(folder, state=tmp_path / "state") as running, tab(browser, running.address) as opened:
        begun = time.monotonic()
        opened.open(running.key)
        shown = time.monotonic() - begun
        assert opened.state("state.volume.grid.shape") == [134, 512, 512]
        opened.go_to(TUMOR_MM)
        begun = time.monotonic()
        opened.until_done(lambda: opened.click("axial", TUMOR_MM))
        print(f"{shown:.1f} s to the CT, {time.monotonic() - begun:.1f} s from click to contour")
        (lesion,) = opened.lesions
        assert lesion["measurement"]["volume_ml"] > 20
        opened.contour("axial")
