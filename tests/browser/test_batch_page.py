"""The page of a batch in a real Chromium: hundreds of cases, of which only those in view are drawn; keys judge them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser

from clmsda.batch.outcomes import DONE, FAILED, Outcome
from clmsda.batch.page import write_page

LESION = {"label": 1, "volume_ml": 1.5, "long_axis_mm": 12.0, "short_axis_mm": 9.0, "size_group": 1, "mean_hu": 20.0,
          "confidence": 0.8, "warnings": ["look </script> at it"]}  # fmt: skip


def test_hundreds_of_cases(browser: Browser, tmp_path: Path) -> None:
    cases = [Outcome(f"case-{n:03}", n + 2, DONE, "", 1.0, "P1", "2026-01-02", (LESION,)) for n in range(300)]
    cases += [Outcome("bad", 302, FAILED, f"a reason with a UID of {'1.2.840.' * 30}", 0.1)]
    write_page(cases, 400, tmp_path / "results.html", "hundreds")
    page = browser.new_page(viewport={"width": 900, "height": 700})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto((tmp_path / "results.html").as_uri())
    drawn = "document.querySelectorAll('article').length"
    page.wait_for_function(f"{drawn} > 0")
    assert page.evaluate(drawn) < 150 and "300 done, 1 failed, of 400" in page.inner_text("#sum")
    for _ in range(200):
        page.keyboard.press("j")
    page.keyboard.press("r")
    page.keyboard.press("2")
    assert page.inner_text("article.here h2").startswith("case-200")
    page.select_option("#which", "rejected")
    assert page.evaluate(drawn) == 1 and page.evaluate("scrollY") == 0
    page.select_option("#which", "failed")
    assert page.evaluate("document.documentElement.scrollWidth") <= 900, "long words are broken"
    with page.expect_download() as waiting:
        page.keyboard.press("s")
    with open(waiting.value.path(), encoding="utf8", newline="") as file:
        verdicts = {row["name"]: (row["verdict"], row["rating"]) for row in csv.DictReader(file)}
    assert (
        len(verdicts) == 301 and verdicts.pop("case-200") == ("rejected", "2") and set(verdicts.values()) == {("", "")}
    )
    page.select_option("#which", "all cases")
    page.wait_for_timeout(300)
    for _ in range(40):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(50)
    page.wait_for_function(f"{drawn} === 301")
    assert not faults and not page.inner_text("#end")
    page.close()


def test_verdicts_are_of_one_batch_and_of_what_was_judged(browser: Browser, tmp_path: Path) -> None:
    """Another batch at the same place, and a case that was done again with another result, have none."""
    page = browser.new_page()
    cases = [Outcome(name, 2, DONE, "", 1.0, lesions=(LESION,), row=name) for name in ("one", "two")]

    def judged(batch: str, cases: list[Outcome]) -> int:
        write_page(cases, 2, tmp_path / "results.html", batch)
        page.goto((tmp_path / "results.html").as_uri())
        page.wait_for_function("document.querySelectorAll('article').length > 0")
        return int(page.inner_text("#sum").partition(" with a verdict")[0].rsplit(maxsplit=1)[1])

    assert judged("first", cases) == 0
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("r")
    assert judged("first", cases) == 2 and judged("second", cases) == 0
    assert judged("first", cases[1:]) == 1, "one is being done again"
    page.keyboard.press("r")
    slower = [replace(one, seconds=9.0, wanted=("dicom",)) for one in cases]
    assert judged("first", slower) == 2, "the same result"
    for other in (replace(cases[0], lesions=(LESION | {"volume_ml": 1.6},)), replace(cases[0], row="another")):
        assert judged("first", [other, cases[1]]) == 1
    assert page.locator("[aria-pressed=true]").all_inner_texts() == ["reject"]
    page.close()
