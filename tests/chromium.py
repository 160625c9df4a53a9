"""A real Chromium on the page of a real server: what a person does there, and what the screen shows then."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright
from scipy import ndimage

EXECUTABLE = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
PLANES = ("axial", "coronal", "sagittal")
PATIENCE_S = 120.0
FREE = "document.getElementById('progress').hidden && !document.body.dataset.busy"


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=EXECUTABLE, args=list(FLAGS))


@dataclass
class Tab:
    """One tab. faults: what the browser's console and scripts complained of, requests: addresses beyond the server."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    def open(self, key: str) -> None:
        """The page, until the CT that was given is there."""
        self.page.goto(f"{self.address}/?key={key}")
        self.until(f"window.clmsda?.state.volume && {FREE}")
        self.settle()  # a browser drops what is clicked before the page was ever drawn

    def show(self, ct: str) -> None:
        """A CT that is open already, by the address that the page gives it."""
        self.page.goto(f"{self.address}/#{ct}")
        self.page.reload()
        self.until(f"window.clmsda?.state.ct?.id === '{ct}' && {FREE}")
        self.settle()

    def until(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Wait for an expression in the page; not by Playwright's own way, which the page's policy forbids (eval)."""
        ends = time.monotonic() + seconds
        while not self.page.evaluate(f"() => Boolean({condition})"):
            assert time.monotonic() < ends, f"never came true: {condition}; the page says {self.message()!r}"
            self.page.wait_for_timeout(20)

    def until_free(self) -> None:
        self.until(f"{FREE} && !window.clmsda.state.pending")

    def state(self, expression: str) -> Any:
        return self.page.evaluate(f"(() => {{ const {{ state, panes }} = window.clmsda; return {expression}; }})()")

    @property
    def lesions(self) -> list[dict[str, Any]]:
        return list(self.state("state.ct.lesions"))

    def settle(self) -> None:
        """Until what changed is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until_done(self, change: Callable[[], Any]) -> None:
        """Do what begins work, and wait until the lesions are there, drawn, and the page is free again."""
        before = self.state("state.ct.revision")
        change()
        self.until(f"window.clmsda.state.ct.revision !== '{before}'")
        self.until_free()
        self.settle()

    def refused(self, change: Callable[[], Any]) -> str:
        """Do what is refused; the line that says why."""
        change()
        self.until("!document.getElementById('message').hidden")
        return self.page.inner_text("#message span")

    def message(self) -> str:
        return self.page.inner_text("#message span") if self.page.is_visible("#message") else ""

    def shows(self, plane: str, number: int) -> None:
        """Go to a slice of a plane, counted from 0, by its slider."""
        self.page.locator(f"[data-pane={plane}] .slider").fill(str(number + 1))
        self.settle()

    def corner(self, plane: str) -> tuple[float, float]:
        box = self.page.locator(f"[data-pane={plane}]").bounding_box()
        assert box
        return box["x"], box["y"]

    def place(self, plane: str, lps_mm: Any) -> tuple[float, float]:
        """Where the page draws a position, in the window's pixels."""
        x, y = self.page.evaluate(
            "([plane, lps]) => { const { state, panes } = window.clmsda;"
            " return panes[plane].toScreen(state.volume.grid.toIndex(lps)); }",
            [plane, [float(value) for value in lps_mm]],
        )
        left, top = self.corner(plane)
        return left + x, top + y

    def go_to(self, lps_mm: Any) -> None:
        """The slices of all planes through a position."""
        for plane in PLANES:
            number = self.page.evaluate(
                "([plane, lps]) => { const { state } = window.clmsda;"
                " return Math.round(state.volume.grid.toIndex(lps)[state.planes[plane].through]); }",
                [plane, [float(value) for value in lps_mm]],
            )
            self.shows(plane, number)

    def click(self, plane: str, lps_mm: Any, *, outside: bool = False) -> None:
        self.page.mouse.move(*self.place(plane, lps_mm))
        with self._held("Shift" if outside else ""):
            self.page.mouse.click(*self.place(plane, lps_mm))

    def drag(self, plane: str, start_mm: Any, end_mm: Any) -> None:
        self.page.mouse.move(*self.place(plane, start_mm))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(plane, end_mm), steps=5)
        self.page.mouse.up()

    @contextmanager
    def _held(self, key: str) -> Iterator[None]:
        if key:
            self.page.keyboard.down(key)
        yield
        if key:
            self.page.keyboard.up(key)

    def canvas(self, plane: str, which: str) -> NDArray[np.uint8]:
        """(height, width, 4) pixels of a pane's canvas: "image" or "over"."""
        data = self.state(f"panes.{plane}.{which}.toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGBA"))

    def ball(self, plane: str) -> NDArray[np.float64]:
        """(2, 2) pixels of a pane: upper left and lower right of the one bright blob that is as round as a ball."""
        gray = self.canvas(plane, "image")[:, :, 0] > 128
        labels, _ = ndimage.label(gray)
        found = [box for number, box in enumerate(ndimage.find_objects(labels), 1) if _is_ball(labels[box] == number)]
        assert len(found) == 1, f"{len(found)} balls in the {plane} view"
        rows, columns = found[0]
        return np.array([[columns.start, rows.start], [columns.stop, rows.stop]], float)

    def contour(self, plane: str) -> NDArray[np.float64]:
        """(2, 2) pixels of a pane: upper left and lower right of the first lesion's contour, its marks taken away."""
        text = self.page.eval_on_selector(".card", "(card) => card.style.getPropertyValue('--lesion')")
        color = [int(text[at : at + 2], 16) for at in (1, 3, 5)]
        pixels = self.canvas(plane, "over").astype(int)
        mine = (np.abs(pixels[:, :, :3] - color).max(axis=-1) < 60) & (pixels[:, :, 3] > 200)
        labels, count = ndimage.label(mine, np.ones((3, 3)))
        assert count, f"no contour in the {plane} view"
        boxes = ndimage.find_objects(labels)
        rows, columns = max(boxes, key=lambda box: (box[0].stop - box[0].start) * (box[1].stop - box[1].start))
        return np.array([[columns.start, rows.start], [columns.stop, rows.stop]], float)


def _is_ball(blob: NDArray[np.bool_]) -> bool:
    height, width = blob.shape
    return blob.sum() > 20 and 0.65 < blob.sum() / (height * width) < 0.9 and 0.6 < height / width < 1.7


@contextmanager
def tab(browser: Browser, address: str, *, width: int = 1366, height: int = 768, **more: Any) -> Iterator[Tab]:
    """A tab of its own; afterwards nothing may have gone wrong in it, and nothing asked for from elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **more)
    opened = Tab(context.new_page(), address)
    expected = "Failed to load resource"  # a refusal, which the page says itself
    opened.page.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.page.on(
        "console",
        lambda said: opened.faults.append(said.text) if said.type == "error" and expected not in said.text else None,
    )
    opened.page.on(
        "request",
        lambda one: opened.strays.append(one.url) if not one.url.startswith((address, "data:", "blob:")) else None,
    )
    try:
        yield opened
        assert not opened.faults, opened.faults
        assert not opened.strays, opened.strays
    finally:
        context.close()


def said_in(request: Any) -> dict[str, Any]:
    """What a request to /prompt says."""
    return dict(json.loads(request.post_data)["said"])
