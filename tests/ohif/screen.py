"""OHIF's window: what a person does in it, and what is drawn there, compared with voxels."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from chromium import tab
from loopback import serving
from numpy.typing import NDArray
from ohif.beside import beside
from ohif.study import Study
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from scipy import ndimage

from clmsda.geometry import Grid

PATIENCE_S = 60.0
expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass
class Screen:
    """One axial viewport, not zoomed. grid: of the CT, whose first row is at the upper border."""

    page: Page
    grid: Grid

    def open(self, address: str) -> None:
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.goto(address)
        self.named("viewport-overlay-bottom-right").get_by_text("I:").wait_for()
        for notice in ("Skip all", "Confirm and hide"):
            self.page.get_by_text(notice).click()

    def named(self, name: str) -> Locator:
        """A part of the page by the name that OHIF's own tests call it."""
        return self.page.locator(f"[data-cy={name}]")

    def show_series(self, modality: str) -> None:
        self.named("study-browser-thumbnail-no-image").filter(has_text=modality).dblclick()

    def load_segments(self) -> None:
        """What it asks before a SEG or an RTSTRUCT is more than a preview."""
        self.page.get_by_role("button", name="Yes").click()
        self.named("panelSegmentation-btn").click()

    def until(self, true: Callable[[], bool], what: str) -> None:
        """What is drawn comes some time after what was clicked."""
        ends = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < ends, what
            self.page.wait_for_timeout(200)

    @property
    def slice(self) -> int:
        """The slice that is shown, by its InstanceNumber."""
        text = self.named("viewport-overlay-bottom-right").inner_text()
        return int(text.partition("I:")[2].split()[0]) - 1

    @property
    def texts(self) -> list[str]:
        """The lines written over the image."""
        return self.page.locator(".svg-layer tspan").all_text_contents()

    @property
    def lines(self) -> NDArray[np.float64]:
        """(n, 2, 2) x and y of both ends of each line drawn over the image, in pixels of the picture."""
        read = "(lines) => lines.map((line) => ['x1', 'y1', 'x2', 'y2'].map((end) => +line.getAttribute(end)))"
        return np.array(self.page.locator(".svg-layer > line").evaluate_all(read), float).reshape(-1, 2, 2)

    def picture(self) -> NDArray[np.int_]:
        """(height, width, 3) pixels of the viewport."""
        with Image.open(io.BytesIO(self.named("viewport-pane").screenshot())) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def places(self, lps_mm: Any) -> NDArray[np.float64]:
        """(n, 2) x and y of positions, in pixels of the picture, whose height the slice fills."""
        box = self.named("viewport-pane").bounding_box()
        assert box
        rows, columns = self.grid.shape[1:]
        index = self.grid.to_index(np.asarray(lps_mm))[:, :0:-1] - ((columns - 1) / 2, (rows - 1) / 2)
        return index * box["height"] / rows + (box["width"] / 2, box["height"] / 2)

    def at_voxels(self, picture: NDArray) -> NDArray:
        """(rows, columns, ...) what a picture shows where the slice's voxels are."""
        rows, columns = self.grid.shape[1:]
        index = np.stack([a.ravel() for a in np.meshgrid(0, np.arange(rows), np.arange(columns), indexing="ij")], -1)
        x, y = np.rint(self.places(self.grid.to_lps(index)) - 0.5).astype(int).T
        return picture[y, x].reshape(rows, columns, *picture.shape[2:])

    def colored(self) -> NDArray[np.bool_]:
        """(rows, columns) of the slice: what is, or is surrounded by, the orange of the first lesion. OHIF is blue."""
        picture = self.picture()
        return self.at_voxels(ndimage.binary_fill_holes(picture[:, :, 0] - picture[:, :, 2] > 40))


@contextmanager
def opened(browser: Browser, viewer: Path, study: Study, **size: int) -> Iterator[Screen]:
    """The study in the viewer of a folder: the first slice of its CT."""
    with serving(beside(viewer, study.dicom_web)) as address, tab(browser, address, **size) as found:
        screen = Screen(found.page, study.ct.grid)
        screen.open(f"{address}/viewer?StudyInstanceUIDs={study.uid}")
        yield screen
