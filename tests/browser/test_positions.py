"""What is clicked is what is segmented, and the contour is drawn where the voxels are: any grid, all three planes.

The ball is found on the screen by its brightness, so nothing here trusts the page's own map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from chromium import PLANES, Tab, said_in, tab
from dicom_series import write_series
from half_tissue import LUNG_HU, TISSUE_HU, Ball, distance, save_model
from numpy.typing import NDArray
from playwright.sync_api import Browser
from serve_process import Serving, serving

from clmsda.geometry import Grid, Volume
from clmsda.images import write_image

BALL: Ball = ((14.0, -9.0, 11.0), 16.0)
"""To the patient's left, in front, and towards the head of the CT's middle."""
AXIAL = ("z", "y", "x")


def grid_of(axes: Sequence[str], turned: tuple[float, float] = (0, 0)) -> Grid:
    """A lopsided grid around 0, 0, 0. axes: of slices, rows and columns, "-x" for one that runs to the right.

    turned: degrees about x, then about z.
    """
    shape, spacing = (38, 74, 98), (2.6, 1.3, 0.9)
    directions = np.zeros((3, 3))
    for number, name in enumerate(axes):
        directions["xyz".index(name[-1]), number] = -1 if name.startswith("-") else 1
    a, b = np.radians(turned)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ directions * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def ct_of(grid: Grid) -> Volume:
    """The ball in a lung, with the chest wall on the first and last rows."""
    dense = np.clip(0.5 - distance(grid, BALL) / grid.spacing_mm.min(), 0, 1)
    dense[:, :2] = dense[:, -2:] = 1
    noise = np.random.default_rng(0).normal(0, 10, grid.shape)
    return Volume((LUNG_HU + (TISSUE_HU - LUNG_HU) * dense + noise).astype(np.int16), grid, "lung")


GRIDS = {
    "lopsided": grid_of(AXIAL),
    "prone": grid_of(("z", "-y", "-x")),
    "feet-first": grid_of(("-z", "y", "-x")),
    "negated column cosine": grid_of(("z", "y", "-x")),
    "negated row cosine": grid_of(("z", "-y", "x")),
    "all reversed": grid_of(("-z", "-y", "-x")),
    "coronal": grid_of(("y", "-z", "x")),
    "sagittal": grid_of(("x", "-z", "y")),
    "oblique": grid_of(AXIAL, (17, 11)),
    "oblique, reversed": grid_of(("-z", "y", "-x"), (-14, 20)),
}
SERIES = ("prone", "negated column cosine", "oblique")
"""These as DICOM series, too."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("positions")
    given: list[Path] = []
    for name, grid in GRIDS.items():
        given.append(folder / f"{name}.nii.gz")
        write_image(ct_of(grid), given[-1])
    for name in SERIES:
        given.append(folder / f"series {name}")
        write_series(given[-1], ct_of(GRIDS[name]))
    with serving(*given, "--model", save_model(folder), state=folder / "state") as running:
        yield running


@pytest.fixture(params=[*((name, False) for name in GRIDS), *((name, True) for name in SERIES)], ids=str)
def shown(request: pytest.FixtureRequest, served: Serving, browser: Browser) -> Iterator[tuple[Tab, Grid]]:
    """A tab with one of the CTs, chosen from the list."""
    name, is_series = request.param
    with tab(browser, served.address) as opened:
        opened.page.goto(f"{served.address}/?key={served.key}")
        title = f"series {name}" if is_series else f"{name}.nii.gz"
        index = [one["name"] for one in served.client.get("/api/desk").json()["given"]].index(title)
        key = served.job(served.client.post("/api/open", json=given_of(served, index)))["id"]
        opened.show(key)
        yield opened, GRIDS[name]
    served.client.delete(f"/api/ct/{key}")


def given_of(served: Serving, index: int) -> dict[str, object]:
    series = served.client.get("/api/desk").json()["given"][index]["series"]
    return {"given": index, "series": series[0]["uid"] if series else None}


def test_the_position_clicked_is_the_position_segmented(shown: tuple[Tab, Grid]) -> None:
    opened, grid = shown
    check_layout(opened)
    for plane in PLANES:
        opened.go_to(BALL[0])
        x, y = opened.ball(plane).mean(axis=0) + opened.corner(plane)
        with opened.page.expect_request("**/prompt") as asked:
            opened.until_done(lambda x=x, y=y: opened.page.mouse.click(x, y))
        said = said_in(asked.value)
        assert said["kind"] == "Point"
        off = np.abs(grid.to_index(said["lps_mm"]) - grid.to_index(BALL[0]))
        assert off.max() < 1, f"{plane}: {off.round(2)} voxels (slice, row, column) beside the ball's middle"
        (lesion,) = opened.lesions
        middle = grid.to_index(lesion["measurement"]["center_lps"]) - grid.to_index(BALL[0])
        assert np.abs(middle).max() < 1, f"{plane}: the lesion lies {middle.round(2)} voxels beside the ball"
        for other in PLANES:
            check_contour(opened, other)
        opened.until_done(lambda: opened.page.keyboard.press("Control+z"))
        assert not opened.lesions


def check_contour(opened: Tab, plane: str) -> None:
    """The contour runs along the ball's border: to a voxel and the width of the line, on each side."""
    ball, contour = opened.ball(plane), opened.contour(plane)
    voxel = np.abs(opened.state(f"[panes.{plane}.map.a, panes.{plane}.map.d]"))
    off: NDArray[np.float64] = np.abs(contour - ball)
    assert (off < voxel * 0.75 + 2.5).all(), f"{plane}: {off.round(1)} pixels, a voxel has {voxel.round(1)}"


def check_layout(opened: Tab) -> None:
    """As radiologists read: the patient's right on the left, front up, head up; in sagittals the front on the left."""
    opened.go_to(BALL[0])
    sides = {"axial": (1, -1), "coronal": (1, -1), "sagittal": (-1, -1)}  # left, front and head of the middle
    for plane, (right, down) in sides.items():
        x, y = opened.ball(plane).mean(axis=0) - np.array(opened.state(f"panes.{plane}.size")) / 2
        assert x * right > 0 and y * down > 0, f"{plane}: the ball lies {x:.0f}, {y:.0f} pixels from the middle"
    letters = {"axial": "R L A P", "coronal": "R L S I", "sagittal": "A P S I"}
    for plane, expected in letters.items():
        found = opened.state(f"['left', 'right', 'top', 'bottom'].map((side) => state.planes.{plane}.letters[side][0])")
        assert " ".join(found) == expected, plane


def test_lines_and_boxes_go_where_they_are_drawn(served: Serving, browser: Browser) -> None:
    grid = GRIDS["oblique"]
    index = [one["name"] for one in served.client.get("/api/desk").json()["given"]].index("oblique.nii.gz")
    key = served.job(served.client.post("/api/open", json=given_of(served, index)))["id"]
    with tab(browser, served.address) as opened:
        opened.page.goto(f"{served.address}/?key={served.key}")
        opened.show(key)
        opened.go_to(BALL[0])
        (left, top), (right, bottom) = opened.ball("axial") + opened.corner("axial")
        opened.page.keyboard.press("l")
        with opened.page.expect_request("**/prompt") as asked:
            opened.until_done(lambda: _drag(opened, (left, (top + bottom) / 2), (right, (top + bottom) / 2)))
        line = said_in(asked.value)
        assert line["kind"] == "RecistLine"
        ends = grid.to_index([line["start_mm"], line["end_mm"]])
        middle = grid.to_index(BALL[0])
        assert np.abs(ends.mean(axis=0) - middle).max() < 1
        length = np.linalg.norm(np.subtract(line["end_mm"], line["start_mm"]))
        assert abs(length - BALL[1]) < 2, "as long as the ball is thick"
        opened.page.keyboard.press("b")
        for plane in PLANES:
            opened.go_to(BALL[0])
            lower, upper = opened.ball(plane) + opened.corner(plane)
            with opened.page.expect_request("**/prompt") as asked:
                opened.until_done(lambda a=lower, b=upper: _drag(opened, a, b))
            box = said_in(asked.value)
            assert box["kind"] == "Box"
            off = np.abs((np.array(box["lower_mm"]) + box["upper_mm"]) / 2 - BALL[0])
            assert off.max() < 2, f"{plane}: the box's middle lies {off.round(1)} mm beside the ball's"


def _drag(opened: Tab, start: Sequence[float], end: Sequence[float]) -> None:
    opened.page.mouse.move(*map(float, start))
    opened.page.mouse.down()
    opened.page.mouse.move(*map(float, end), steps=4)
    opened.page.mouse.up()
