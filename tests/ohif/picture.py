"""The picture of docs/pacs.md, of a phantom: PYTHONPATH=src:tests python tests/ohif/picture.py VIEWER docs/images"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from chromium import launch
from ohif.screen import opened
from ohif.study import Study, filed
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

WIDTH, HEIGHT = 1180, 560
TOP = {"RTSTRUCT": 125, "SR": 215}


def series(browser: Browser, viewer: Path, study: Study, modality: str) -> Image.Image:
    """OHIF's window with one of the objects, at the lesion; of RTSTRUCT and SR a part."""
    with opened(browser, viewer, study, width=WIDTH, height=HEIGHT) as screen:
        screen.show_series(modality)
        if modality != "SR":
            screen.load_segments()
            screen.named("data-row-title").click()
            screen.until(lambda: bool(screen.colored().any()), "nothing is drawn")
        screen.page.wait_for_timeout(3000)
        whole = Image.open(io.BytesIO(screen.page.screenshot()))
    return whole if modality == "SEG" else whole.crop((WIDTH // 2, TOP[modality], WIDTH, TOP[modality] + 300))


def main(viewer: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, filed(Path(folder)) as study, sync_playwright() as playwright:
        browser = launch(playwright)
        seg, rtstruct, sr = (series(browser, viewer, study, one) for one in ("SEG", "RTSTRUCT", "SR"))
        browser.close()
    picture = Image.new("RGB", (WIDTH, HEIGHT + sr.height))
    picture.paste(seg, (0, 0))
    picture.paste(rtstruct, (0, HEIGHT))
    picture.paste(sr, (WIDTH // 2, HEIGHT))
    small = picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(out / "pacs_ohif.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
