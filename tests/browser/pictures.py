"""The pictures of docs/viewer.md, of a phantom: PYTHONPATH=src:tests python tests/browser/pictures.py docs/images"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from chromium import Tab, launch, tab
from PIL import Image
from playwright.sync_api import sync_playwright
from serve_process import serving

from clmsda.images import write_image
from clmsda.measurements import Measurement, measure
from clmsda.phantoms import sample, scan


def read(opened: Tab, tumor: Measurement) -> None:
    """The tumor clicked, and corrected at its edge."""
    opened.go_to(tumor.center_mm)
    opened.until_done(lambda: opened.click("axial", tumor.center_mm))
    end = np.array(opened.lesions[0]["measurement"]["long_axis_lps"][0])
    outside = end + (np.array(tumor.center_mm) - end) * 0.1
    opened.go_to(outside)
    opened.until_done(lambda: opened.click("axial", outside, outside=True))
    opened.page.keyboard.press("g")


def main(out: Path) -> None:
    ct, truth = scan(sample(34), matrix=320)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        write_image(ct, folder / "phantom.nii.gz")
        browser = launch(playwright)
        with serving(folder / "phantom.nii.gz", "--out", folder / "out", state=folder / "state") as running:
            with tab(browser, running.address, color_scheme="dark") as opened:
                opened.open(running.key)
                read(opened, measure(truth))
                opened.page.click("#three")
                opened.page.wait_for_timeout(9000)
                opened.page.screenshot(path=out / "page.png")
                opened.page.keyboard.press("1")
                for _ in range(3):
                    opened.page.keyboard.press("+")
                opened.settle()
                opened.page.wait_for_timeout(300)
                opened.page.screenshot(path=out / "page-axial.png")
            with tab(browser, running.address, width=820, height=1180, has_touch=True) as tablet:
                tablet.open(running.key)
                tablet.page.keyboard.press("]")
                tablet.page.wait_for_timeout(500)
                tablet.page.screenshot(path=out / "page-tablet.png")
        browser.close()
    for path in out.glob("page*.png"):
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(256)
        small.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
