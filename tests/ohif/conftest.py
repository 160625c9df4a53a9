"""One study, one Chromium, and OHIF anew for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orthanc
import pytest
from chromium import launch
from ohif.screen import Screen, opened
from ohif.study import Study, filed
from playwright.sync_api import Browser, sync_playwright

VIEWER = Path(os.environ.get("OHIF_VIEWER", "nowhere"))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    if orthanc.MISSING:
        pytest.skip(orthanc.MISSING)
    if not (VIEWER / "index.html").exists():
        pytest.skip("needs OHIF (make test-ohif)")
    with filed(tmp_path_factory.mktemp("study")) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture
def screen(study: Study, browser: Browser) -> Iterator[Screen]:
    with opened(browser, VIEWER, study) as found:
        yield found
