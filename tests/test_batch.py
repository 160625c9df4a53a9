"""Batches with real processes: every row accounted for once, whatever is killed; one bad row stops no other."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import clmsda, refused
from dicom_series import write_series
from half_tissue import Ball, lung, save
from measurement_reports import group, in_space, report
from pool_tasks import ready

from clmsda.batch import BatchError, read_table, run
from clmsda.batch.case import Wanted
from clmsda.batch.outcomes import Folder
from clmsda.batch.pool import PoolError, spread
from clmsda.batch.running import Progress
from clmsda.dicom_objects import read_source
from clmsda.files import claimed
from clmsda.images import write_image
from clmsda.prompts import RecistLine
from clmsda.runtimes import DeviceError, devices

BALL: Ball = ((0.0, 0.0, 0.0), 24.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "half.safetensors")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three good rows, and three that are bad in three ways."""
    write_image(lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2)), tmp_path / "ct.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b no image")
    path = tmp_path / "table.csv"
    path.write_text(
        "name,ct,point,box,patient\n"
        'one,ct.nii.gz,"0,0,0",,P1\n'
        'two,ct.nii.gz,"2,0,0",,=cmd\n'
        "none,ct.nii.gz,,,P3\n"
        'broken,broken.nii.gz,"0,0,0",,P4\n'
        'gone,no.nii.gz,"0,0,0",,P5\n'
        'three,ct.nii.gz,,"-12,-12,-12,12,12,12",P6\n'
    )
    return path


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").open(encoding="utf8", newline="")))


def made(out: Path) -> dict[str, int]:
    """When each row's outcome was made."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cases/*/outcome.json")}


def test_every_row_has_its_outcome(table: Path, model: Path, tmp_path: Path) -> None:
    out, far = tmp_path / "out", []
    outcomes = run(read_table(table), out, model=str(model), processes=2, progress=far.append)
    assert [one.status for one in outcomes] == ["done", "done", "failed", "failed", "failed", "done"]
    reasons = {one.name: one.reason for one in outcomes}
    assert "expected a prompt" in reasons["none"] and "no file or folder" in reasons["gone"] and reasons["broken"]
    assert (far[-1].done, far[-1].failed, far[-1].count) == (6, 3, 6)
    assert sorted(path.name for path in (out / "cases" / "one").iterdir()) == [
        "mask.nii.gz", "measurements.json", "outcome.json", "preview.png",
    ]  # fmt: skip
    found = rows(out)
    assert [row["name"] for row in found] == ["one", "two", "none", "broken", "gone", "three"]
    assert 20 < float(found[0]["long_axis_mm"]) < 30 and found[1]["patient"] == "'=cmd"
    page = (out / "results.html").read_text(encoding="utf8")
    assert '"name": "three"' in page and "https://" not in page and "http://" not in page


def test_what_is_done_is_not_done_again(table: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(read_table(table), out, model=str(model))
    before = {path: path.stat().st_mtime_ns for path in out.glob("cases/*/outcome.json")}
    run(read_table(table), out, model=str(model))
    assert {path: path.stat().st_mtime_ns for path in out.glob("cases/*/outcome.json")} == before
    (table.parent / "no.nii.gz").write_bytes((table.parent / "ct.nii.gz").read_bytes())
    outcomes = run(read_table(table), out, model=str(model), retry=True)
    assert [one.status for one in outcomes] == ["done", "done", "failed", "failed", "done", "done"]
    (out / "cases" / "one" / "outcome.json").write_text("{")
    assert run(read_table(table), out, model=str(model))[0].status == "done", "damaged from outside: done again"
    with pytest.raises(BatchError, match="another frame"):
        run(read_table(table), out, model=str(model), wanted=Wanted("ras"))
    with pytest.raises(BatchError, match="holds no batch"):
        run(read_table(table), tmp_path, model=str(model))
    assert not (tmp_path / ".lock").exists()


def test_a_folder_belongs_to_one_command(table: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with claimed(out) as mine:
        assert mine
        said = refused("batch", table, "--out", out, "--model", model)
        assert f"another batch is at work in {out}: wait for it, or stop it" in said
        assert [path.name for path in out.iterdir()] == [".lock"]
    assert len(run(read_table(table), out, model=str(model))) == 6, "whoever had it is gone"


@pytest.mark.parametrize("left", ["cases", ".lock", ".clmsda-01234567-batch.json", "batch.json"])
def test_a_command_that_is_killed_at_its_beginning_goes_on(table: Path, model: Path, tmp_path: Path, left: str) -> None:
    out = tmp_path / "out"
    if left == "batch.json":
        run(read_table(table)[:1], out, model=str(model))
        shutil.rmtree(out / "cases")
    else:
        out.mkdir()
        (out / left).mkdir() if left == "cases" else (out / left).touch()
    assert run(read_table(table)[:1], out, model=str(model))[0].status == "done"


def test_what_is_done_is_in_the_table_whatever_ends_the_work(
    table: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after two rows; without a terminal, lines say how far it is."""
    out, command = tmp_path / "out", sys.modules["clmsda.cli.batch"]
    text = command._text  # type: ignore[attr-defined]

    def interrupted(far: Progress) -> str:
        if far.done == 2:
            raise KeyboardInterrupt
        return text(far)

    monkeypatch.setattr(command, "_text", interrupted)
    monkeypatch.setattr(command, "EACH_S", 0.0)
    stopped = clmsda("batch", table, "--out", out, "--model", model)
    assert stopped.returncode == 130 and "stopped: 2 of 6 done; the same command goes on" in stopped.stderr
    assert "Segmenting: 1 of 6 (0 failed), about " in stopped.stderr
    assert [row["name"] for row in rows(out)] == ["one", "two"] and (out / "results.html").is_file()
    monkeypatch.setattr(command, "_text", text)
    assert "3 of 6 done" in clmsda("batch", table, "--out", out, "--model", model).stdout
    left = [text(Progress(1, 0, 9, seconds)) for seconds in (None, 40.0, 100.0, 4800.0)]
    assert [one.partition("about ")[2] for one in left] == ["", "40 s left", "2 min left", "1 h 20 min left"]


def test_what_ends_a_batch_before_it_begins(table: Path, model: Path, tmp_path: Path) -> None:
    """A device that is not here, a detector, and a cluster that is not there: one line, and nothing was made."""
    with pytest.raises(DeviceError, match="device 'tpu'"):
        run(read_table(table), tmp_path / "out", model=str(model), device="tpu", processes=2)
    if "cuda:0" not in devices():
        assert "device 'cuda' is not available here" in refused(
            "batch", table, "--out", tmp_path / "out", "--model", model, "--device", "cuda"
        )
    assert "says where tumors are" in refused("batch", table, "--out", tmp_path / "out", "--model", "detector")
    assert "--dicom" in refused("batch", table, "--out", tmp_path / "out", "--labelmap")
    began = time.monotonic()
    for address in ("127.0.0.1:9", "somewhere"):  # without Ray, what is missing is said
        assert "ray" in refused("batch", table, "--out", tmp_path / "out", "--ray", address).lower()
    assert "fsspec" in refused("batch", table, "--out", "zz://nowhere/out")
    assert time.monotonic() - began < 120 and not (tmp_path / "out").exists()


def test_rows_are_mended_added_and_left_out(
    table: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What failed and was mended is tried without being asked, what is done and changed is refused by name."""
    out, text = tmp_path / "out", table.read_text()

    def again(text: str) -> dict[str, str]:
        table.write_text(text)
        return {one.name: one.status for one in run(read_table(table), out, model=str(model))}

    before = again(text)
    kept = made(out)
    mended = text.replace("none,ct.nii.gz,,,P3", 'none,ct.nii.gz,"0,0,0",,P3') + 'four,ct.nii.gz,"4,0,0",,\n'
    assert again(mended) == before | {"none": "done", "four": "done"}
    assert all(made(out)[name] == kept[name] for name in kept if name != "none"), "failed, and as it was: it stays so"
    assert again(mended.replace("two,ct.nii.gz", "second,ct.nii.gz"))["second"] == "done"
    assert "has 1 of no row any more, as two" in caplog.text and [row["name"] for row in rows(out)][1] == "second"
    changed = mended.replace('\none,ct.nii.gz,"0,0,0"', '\none,ct.nii.gz,"1,0,0"').replace(",P6", ",P7")
    with pytest.raises(BatchError, match=r"line 2, one: expected the row .* another \(as are 1 more\): change it back"):
        again(changed)
    with pytest.raises(BatchError, match="a batch of other rows, as broken: give another folder"):
        again('name,ct,point\nalien,ct.nii.gz,"0,0,0"\n')
    record = json.loads((out / "batch.json").read_text())
    (out / "batch.json").write_text(json.dumps({"model": record["model"], "frame": "lps", "table": "0123"}))
    with pytest.raises(BatchError, match="of an earlier clmsda, which cannot go on"):
        again(mended)


def test_what_is_wanted_now_and_was_not_made_is_made(model: Path, tmp_path: Path) -> None:
    """The former result stays until the new one takes its place; more than is wanted is enough."""
    write_series(tmp_path / "series", lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2)))
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text('name,ct,point,patient\none,series,"0,0,0",\n')

    def files(**wanted: bool) -> tuple[set[str], int]:
        run(read_table(table), out, model=str(model), wanted=Wanted(**wanted))
        return {path.name for path in (out / "cases" / "one").iterdir()}, made(out)["one"]

    bare, first = files(preview=False)
    assert bare == {"mask.nii.gz", "measurements.json", "outcome.json"}
    both, second = files(dicom=True)
    assert both - bare == {"preview.png", "seg.dcm", "rtstruct.dcm", "sr.dcm"} and second != first
    assert files() == files(preview=False) == (both, second), "there is more already"
    assert [path.name for path in out.glob(".*")] == [".lock"] and len(list((out / "cases").iterdir())) == 1
    large = (out / "cases/one/seg.dcm").read_bytes()
    assert files(dicom=True, labelmap=True)[0] == both and (out / "cases/one/seg.dcm").read_bytes() != large
    assert rows(out)[0]["patient"] == "P1" and "tracking_uid" in (out / "cases/one/measurements.json").read_text()
    assert files(anonymize=True)[0] == both - {"seg.dcm", "rtstruct.dcm", "sr.dcm"}
    said = "".join(path.read_text() for path in (*out.glob("cases/one/*.json"), out / "results.csv"))
    assert "P1" not in said and "tracking_uid" not in said and "2024-01-02" not in said
    table.write_text('name,ct,point,patient\none,series,"0,0,0",\nbad,no.nii.gz,"0,0,0",\n')
    files(anonymize=True)
    failed_at = made(out)["bad"]
    files(anonymize=True)
    assert made(out)["bad"] == failed_at and files()[1] and made(out)["bad"] != failed_at, "it was for something else"


def test_a_result_outlasts_a_failure_to_make_more_of_it(table: Path, model: Path, tmp_path: Path) -> None:
    """--dicom on a NIfTI: the row has failed, and what was made before is there still, also for the former command."""
    out, row = tmp_path / "out", read_table(table)[:1]
    assert run(row, out, model=str(model))[0].status == "done"
    kept = made(out)
    for _ in range(2):
        outcome = run(row, out, model=str(model), wanted=Wanted(dicom=True))[0]
        assert "is not DICOM" in outcome.reason and rows(out)[0]["status"] == "failed" and made(out) == kept
    assert run(row, out, model=str(model))[0].status == "done" and made(out) == kept
    folder = Folder(out)
    folder.put(replace(outcome, wanted=("anonymize", "dicom")))
    assert made(out) != kept and not (out / "cases/one/mask.nii.gz").exists(), "what tells of a patient does not stay"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name,ct,point,size\na,b,c,d\n", "found size"),
        ("name,ct\na,b\n", "no point, recist, box"),
        ("name,point\na,b\n", "no ct"),
        ("name,ct,point,ct\na,b,c,d\n", "ct twice"),
        ("name,ct,point\n", "no row"),
        ("name,ct,point\nA,b,c\na,b,c\n", "lines 2 and 3"),
        ("", "expected the columns"),
        ('name,ct,point\n"a,b,c\n', "no table"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(BatchError, match=match):
        read_table(path)


def test_rows_that_cannot_be_worked_on_say_why(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('name,ct,point\n../up,ct,"0,0,0"\nb,,"0,0,0"\nc,ct,0,0,0\nd,ct,"1,2,3; 4,5,6"\n')
    up, nothing, unquoted, good = read_table(path)
    assert "can be a folder's" in up.wrong and up.name == "line-2"
    assert "path of a CT" in nothing.wrong and "put cells with commas in quotes" in unquoted.wrong
    assert not good.wrong and good.prompts == (("point", "1,2,3"), ("point", "4,5,6"))


def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path)) for number in range(20)]
    found = list(spread(tasks, 3, ready, lambda task: -task[0]))
    assert sorted(found) == sorted([-7, *(number for number in range(20) if number != 7)])


def test_an_idle_process_takes_over_from_one_that_is_killed_last(tmp_path: Path) -> None:
    tasks = [(0, str(tmp_path)), (14, str(tmp_path))]
    assert sorted(spread(tasks, 2, ready, lambda task: -1)) == [0, 14]


def test_a_mistake_of_ours_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="ValueError: wrong"):
        list(spread([(-1, str(tmp_path))], 1, ready, lambda task: 0))


def test_the_parent_killed_for_real_goes_on(model: Path, tmp_path: Path) -> None:
    """SIGKILL to the parent after the first outcomes; the same command ends with every row once."""
    write_image(lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2)), tmp_path / "ct.nii.gz")
    names = [f"case-{number:02}" for number in range(10)]
    lines = [f'{name},ct.nii.gz,"0,0,0"' for name in names]
    (tmp_path / "table.csv").write_text("\n".join(["name,ct,point", *lines]) + "\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "clmsda", "batch", str(tmp_path / "table.csv"), "--out", str(out),
               "--model", str(model), "--processes", "2", "--no-preview"]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(out.glob("cases/case-*/outcome.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cases/case-*/outcome.json")}
    assert kept
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "10 of 10 done" in done.stdout
    after = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cases/case-*/outcome.json")}
    assert sorted(after) == names and {name: after[name] for name in kept} == kept
    assert [path.name for path in out.glob(".*")] == [".lock"] and not list(out.glob("cases/.*")), "no debris"
    assert json.loads((out / "cases/case-03/outcome.json").read_text())["lesions"][0]["label"] == 1


def test_a_readers_line_in_a_report_is_a_prompt_in_a_batch_and_on_the_command_line(model: Path, tmp_path: Path) -> None:
    series = tmp_path / "series"
    write_series(series, lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2)))
    source = read_source(series)
    line = RecistLine((-9.0, 0.0, 0.0), (9.0, 0.0, 0.0))
    drawn = in_space([line.start_mm, line.end_mm], source.frame_uid)
    report(tmp_path / "reader.dcm", group(drawn))
    table = tmp_path / "table.csv"
    table.write_text(
        "name,ct,recist,recist_from\n"
        'written,series,"-9,0,0,9,0,0",\n'
        "drawn,series,,reader.dcm\n"
        "both,series,,reader.dcm; gone.dcm\n"
    )
    outcomes = run(read_table(table), tmp_path / "out", model=str(model))
    assert [one.status for one in outcomes] == ["done", "done", "failed"] and "gone.dcm" in outcomes[2].reason
    masks = [(tmp_path / "out" / "cases" / name / "mask.nii.gz").read_bytes() for name in ("written", "drawn")]
    assert masks[0] == masks[1]
    table.write_text(table.read_text().replace("; gone.dcm", ""))
    assert run(read_table(table), tmp_path / "out", model=str(model))[2].status == "done", "its row was mended"
    arguments = [series, "--recist-from", tmp_path / "reader.dcm", "--model", model, "-o", tmp_path / "mask.nii.gz"]
    assert clmsda("segment", *arguments).returncode == 0
    assert (tmp_path / "mask.nii.gz").read_bytes() == masks[0]
    done = clmsda("segment", tmp_path / "out", "--recist-from", tmp_path / "no.dcm", "-o", tmp_path / "other.nii.gz")
    assert done.returncode == 2 and not (tmp_path / "other.nii.gz").exists()


def test_patient_and_date_of_a_series_are_known_and_lines_on_a_nifti_are_not(model: Path, tmp_path: Path) -> None:
    volume = lung(BALL, shape=(40, 40, 40), spacing_mm=(2, 2, 2))
    write_series(tmp_path / "series", volume)
    write_image(volume, tmp_path / "ct.nii.gz")
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text(
        "name,ct,point,recist_from,patient,date\n"
        'untold,series,"0,0,0",,,\n'
        'told,series,"0,0,0",,P1,2020-02-02\n'
        'other,series,"0,0,0",,P2,\n'
        'nifti,ct.nii.gz,"0,0,0",,P3,\n'
        "drawn,ct.nii.gz,,reader.dcm,,\n"
    )
    outcomes = run(read_table(table), out, model=str(model))
    known = [(row["patient"], row["date"]) for row in rows(out)]
    assert known == [("P1", "2024-01-02"), ("P1", "2020-02-02"), ("P2", "2024-01-02"), ("P3", ""), ("", "")]
    said = "the table calls its patient P2, its PatientID is P1: is it the right CT?"
    assert [said in row["warnings"] for row in rows(out)] == [False, False, True, False, False]
    assert outcomes[4].reason.endswith("lines of an SR or GSPS lie on a DICOM series: give that series")
    arguments = [tmp_path / "ct.nii.gz", "--recist-from", "reader.dcm", "-o", tmp_path / "mask.nii.gz"]
    assert "lines of an SR or GSPS lie on a DICOM series" in refused("segment", *arguments)
