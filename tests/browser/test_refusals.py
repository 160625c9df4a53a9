"""What cannot be done is said in one line where the person looks; the page lives on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, tab
from half_tissue import Ball, lung, save_model
from playwright.sync_api import Browser
from serve_process import Serving, serving

from clmsda.geometry import AIR_HU
from clmsda.images import write_image

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
AIR_MM = (49.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("refusals")
    ct = lung(ONE)
    ct.voxels[:, :, -10:] = AIR_HU
    write_image(ct, folder / "ct.nii.gz")
    with serving(folder / "ct.nii.gz", "--model", save_model(folder), state=folder / "state") as running:
        yield running


@pytest.fixture
def opened(served: Serving, browser: Browser) -> Iterator[Tab]:
    with tab(browser, served.address) as found:
        found.open(served.key)
        yield found


def test_a_click_into_nothing_is_said(opened: Tab) -> None:
    opened.go_to(AIR_MM)
    line = opened.refused(lambda: opened.click("axial", AIR_MM))
    assert "outside the body" in line and "\n" not in line
    opened.until_free()
    assert not opened.lesions
    opened.go_to(ONE[0])
    opened.until_done(lambda: opened.click("axial", ONE[0]))
    assert opened.lesions[-1]["measurement"]
    opened.until_done(lambda: opened.page.keyboard.press("Control+z"))


def test_a_click_beside_the_ct_and_one_outside_of_nothing_are_said(opened: Tab) -> None:
    left, top = opened.corner("axial")
    assert "beyond the CT" in opened.refused(lambda: opened.page.mouse.click(left + 30, top + 60))
    opened.page.keyboard.press("Escape")
    opened.go_to((0, 0, 0))
    opened.page.mouse.move(*opened.place("axial", (0, 0, 0)))
    assert "needs a lesion" in opened.refused(lambda: opened.click("axial", (0, 0, 0), outside=True))


def test_a_file_that_is_no_ct_is_refused_and_a_ct_is_opened(opened: Tab, served: Serving, tmp_path: Path) -> None:
    bad = tmp_path / "holiday.nii.gz"
    bad.write_bytes(b"not a CT at all" * 100)
    opened.page.click("#open")
    line = opened.refused(lambda: opened.page.set_input_files("#opening .files", bad))
    assert line.startswith("holiday.nii.gz") and "\n" not in line
    assert opened.state("state.ct.name") == "ct.nii.gz"
    good = tmp_path / "sent.nii.gz"
    write_image(lung(ONE, shape=(60, 64, 70)), good)
    opened.page.click("#open")
    opened.page.set_input_files("#opening .files", good)
    opened.until("window.clmsda.state.ct.name === 'sent.nii.gz'")
    opened.until_free()
    assert opened.state("state.volume.grid.shape") == [60, 64, 70]


def test_a_former_scan_that_is_none_is_refused(opened: Tab, tmp_path: Path) -> None:
    assert "no lesion to compare" in opened.refused(lambda: opened.page.keyboard.press("c"))


def test_work_is_called_off(opened: Tab) -> None:
    opened.go_to(ONE[0])
    opened.click("axial", ONE[0])
    opened.page.keyboard.press("Escape")
    opened.until_free()
    assert opened.message() == "" or "called off" in opened.message()


def test_a_server_that_is_gone_is_said(browser: Browser, tmp_path: Path) -> None:
    write_image(lung(ONE), tmp_path / "ct.nii.gz")
    arguments = (tmp_path / "ct.nii.gz", "--model", save_model(tmp_path))
    with serving(*arguments, state=tmp_path / "state") as running, tab(browser, running.address) as opened:
        opened.open(running.key)
        running.process.kill()
        running.process.wait(30)
        opened.go_to(ONE[0])
        assert "does not answer" in opened.refused(lambda: opened.click("axial", ONE[0]))
