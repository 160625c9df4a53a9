"""The page in a real Chromium: a click becomes a contour where it was clicked, is corrected, undone and saved."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from half_tissue import Ball, lung, save

from clmsda.geometry import Grid, Volume
from clmsda.images import read_mask, write_image

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright: make test-browser")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: make test-browser")

FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
BALL: Ball = ((-20.0, 12.0, 8.0), 24.0)
KEY = "a-key-for-this-test"


def upright() -> Volume:
    return lung(BALL, spacing_mm=(3.0, 1.5, 2.0), shape=(36, 80, 60))


def turned(*signs: int) -> Volume:
    """The same patient with rows, columns or slices stored the other way round."""
    volume = upright()
    voxels = volume.voxels[tuple(slice(None, None, sign) for sign in signs)]
    lower = [0 if sign > 0 else n - 1 for sign, n in zip(signs, volume.voxels.shape, strict=True)]
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_lps(lower)
    affine[:3, :3] = volume.grid.affine[:3, :3] * signs
    return Volume(voxels.copy(), Grid(volume.voxels.shape, affine), "turned")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[object]:
    """Starts the real server on a CT, and gives the address that opens the page."""
    running: list[subprocess.Popen[str]] = []

    def start(volume: Volume) -> str:
        write_image(volume, tmp_path / "ct.nii.gz")
        model = save(tmp_path / "half.safetensors")
        command = [sys.executable, "-m", "clmsda", "serve", str(tmp_path / "ct.nii.gz"), "--no-open", "--port", "0",
                   "--key", KEY, "--model", str(model)]  # fmt: skip
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("open "):
                return line.split()[1]
        raise AssertionError("the server did not start")

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


def until(page: object, script: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not page.evaluate(script):  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"still waiting for {script}"
        time.sleep(0.1)


def open_page(browser: object, address: str) -> object:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(address)
    until(page, "() => Boolean(window.clmsda?.state.volume)")
    return page


def click_at(page: object, pane: str, lps: tuple[float, float, float], **how: object) -> None:
    """Bring the position's slice into a pane, and click where it is on the screen."""
    index = page.evaluate("(lps) => window.clmsda.state.volume.grid.toIndex(lps)", list(lps))  # type: ignore[attr-defined]
    axis = ("axial", "coronal", "sagittal").index(pane)
    page.locator(f"[data-pane={pane}] .slider").fill(str(round(index[axis]) + 1))  # type: ignore[attr-defined]
    time.sleep(0.3)
    x, y = page.evaluate(  # type: ignore[attr-defined]
        """([pane, index]) => { const one = window.clmsda.panes[pane], box = one.over.getBoundingClientRect();
           const [x, y] = one.toScreen(index); return [x + box.left, y + box.top]; }""",
        [pane, index],
    )
    keys = how.get("keys", [])
    for key in keys:  # type: ignore[attr-defined]
        page.keyboard.down(key)  # type: ignore[attr-defined]
    page.mouse.click(x, y)  # type: ignore[attr-defined]
    for key in keys:  # type: ignore[attr-defined]
        page.keyboard.up(key)  # type: ignore[attr-defined]


IDLE = "() => !window.clmsda.state.pending"


@pytest.mark.parametrize("pane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, -1), (-1, 1, -1)])
def test_what_is_clicked_is_what_is_segmented(
    browser: object, serve: object, pane: str, signs: tuple[int, int, int]
) -> None:
    """In every plane, however rows, columns and slices are stored: the position sent is the one clicked, to a voxel."""
    volume = turned(*signs)
    page = open_page(browser, serve(volume))  # type: ignore[operator]
    click_at(page, pane, BALL[0])
    until(page, "() => window.clmsda.state.ct.lesions.length === 1 && !window.clmsda.state.pending")
    (lesion,) = page.evaluate("() => window.clmsda.state.ct.lesions")  # type: ignore[attr-defined]
    off = np.abs(np.subtract(lesion["steps"][0]["lps_mm"], BALL[0]))
    assert (off <= np.array([2.0, 1.5, 3.0])).all(), "x, y and z within a voxel"
    center = np.array(lesion["measurement"]["center_lps"])
    assert np.linalg.norm(center - BALL[0]) < 4 and 20 < lesion["measurement"]["long_axis_mm"] < 30


def test_a_lesion_is_corrected_undone_accepted_and_saved(browser: object, serve: object) -> None:
    page = open_page(browser, serve(upright()))  # type: ignore[operator]
    click_at(page, "axial", BALL[0])
    until(page, "() => window.clmsda.state.ct.lesions.length === 1 && !window.clmsda.state.pending")
    volume = "() => window.clmsda.state.ct.lesions[0].measurement.volume_ml"
    first = page.evaluate(volume)  # type: ignore[attr-defined]
    x, y, z = BALL[0]
    click_at(page, "axial", (x + 7, y, z), keys=["Shift"])
    until(page, "() => window.clmsda.state.ct.lesions[0].steps.length === 2 && !window.clmsda.state.pending")
    less = page.evaluate(volume)  # type: ignore[attr-defined]
    assert less < first
    page.keyboard.press("Control+z")  # type: ignore[attr-defined]
    until(page, f"() => ({volume})() === {first}")
    page.get_by_role("button", name="Accept").click()  # type: ignore[attr-defined]
    until(page, "() => window.clmsda.state.ct.lesions[0].accepted")
    answer = page.evaluate(  # type: ignore[attr-defined]
        """async () => { const id = window.clmsda.state.ct.id;
           const reply = await fetch(`/api/ct/${id}/save/mask.nii.gz`);
           return Array.from(new Uint8Array(await reply.arrayBuffer())); }"""
    )
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"clmsda-browser-{os.getpid()}.nii.gz"
    path.write_bytes(io.BytesIO(bytes(answer)).getvalue())
    saved = read_mask(path)
    path.unlink()
    assert saved.voxels.sum() * saved.grid.voxel_ml == pytest.approx(first, abs=1e-3)


def test_a_click_in_air_is_said_and_the_session_lives_on(browser: object, serve: object) -> None:
    page = open_page(browser, serve(upright()))  # type: ignore[operator]
    x, y, z = BALL[0]
    click_at(page, "axial", (x + 40, y, z))
    time.sleep(1)
    until(page, IDLE)
    assert page.evaluate("() => window.clmsda.state.ct.lesions.length") in (0, 1)  # type: ignore[attr-defined]
    assert page.get_by_text("Research use only", exact=False).or_(page.get_by_text("research use only")).count()  # type: ignore[attr-defined]
    click_at(page, "axial", BALL[0])
    until(page, "() => window.clmsda.state.ct.lesions.some((one) => one.measurement) && !window.clmsda.state.pending")
