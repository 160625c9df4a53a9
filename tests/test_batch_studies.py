"""A folder of studies and a file of prompts: each CT that is meant is a row, and what is not clear has its reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import refused
from dicom_series import save as save_files
from dicom_series import slices, write_series
from half_tissue import Ball, lung, save
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from clmsda.batch import BatchError, Row, read_studies, run
from clmsda.batch.case import Wanted
from clmsda.images import write_image

BALL: Ball = ((0.0, 0.0, 0.0), 24.0)
CT = lung(BALL, shape=(16, 24, 24), spacing_mm=(3, 3, 3))


def series(patient: str, date: str = "20240102", study: str | None = None, **changes: object) -> list[Dataset]:
    datasets = slices(CT, study_uid=study)
    for dataset in datasets:
        dataset.PatientID, dataset.StudyDate = patient, date
        for name, value in changes.items():
            setattr(dataset, name, value)
    return datasets


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients as archives deliver them: nested, all in one folder, several series, and files of other kinds."""
    folder = tmp_path_factory.mktemp("studies")
    save_files(series("A"), folder / "A" / "study" / "series")
    flat = folder / "flat"  # B's two dates and C, in one folder
    for number, (patient, date) in enumerate([("B", "20240102"), ("B", "20250102"), ("C", "20240102")]):
        save_files(series(patient, date), flat, name=f"{number}-{{:04d}}.dcm")
    thin = series("D", study="1.2.3", SeriesInstanceUID="1.2.3.1")
    thick = series("D", study="1.2.3", SeriesInstanceUID="1.2.3.2")
    save_files(thin, folder / "D" / "thin")
    save_files(thick, folder / "D" / "thick")
    magnetic = slices(CT, modality="MR", sop_class=MRImageStorage)
    save_files(magnetic[:2], folder / "MR")
    write_image(CT, folder / "e.nii.gz")
    (folder / "more").mkdir()
    write_image(CT, folder / "more" / "f.nrrd")
    (folder / "notes.txt").write_text("of the trial")
    return folder


def rows(studies: Path, tmp_path: Path, text: str) -> dict[str, Row]:
    path = tmp_path / "prompts.csv"
    path.write_text(text)
    return {row.name: row for row in read_studies(studies, path)}


def test_each_ct_that_a_line_is_about_is_a_row(studies: Path, tmp_path: Path) -> None:
    found = rows(
        studies,
        tmp_path,
        "path,patient,date,series,name,point,recist\n"
        ',A,,,,"0,0,0",\n'
        ',B,2025-01-02,,,"1,0,0",\n'
        ',C,20240102,,,,"-9,0,0,9,0,0"\n'
        'D,,,1.2.3.2,thick,"0,0,0",\n'
        'e.nii.gz,,,,,"0,0,0; 1,1,1",\n'
        'e.nii.gz,,,,,"2,2,2",\n',
    )
    told = {name: row for name, row in found.items() if row.line}
    assert list(told) == ["A", "B-2025-01-02", "C", "thick", "e"] and not any(row.wrong for row in told.values())
    assert told["e"].prompts == (("point", "0,0,0"), ("point", "1,1,1"), ("point", "2,2,2"))
    assert told["B-2025-01-02"].date == "2025-01-02" and {f.name[0] for f in told["B-2025-01-02"].files} == {"1"}
    assert told["thick"].series == "1.2.3.2" and not told["thick"].files, "it has a folder of its own"
    untold = {name: row.wrong for name, row in found.items() if not row.line}
    assert untold.keys() == {"B-2024-01-02", "P1", "f"}, "of D's study a line is about one series"
    assert "study without CT (found MR)" in untold["P1"] and "no line of prompts.csv" in untold["f"]


def test_lines_that_are_not_clear_say_why(studies: Path, tmp_path: Path) -> None:
    found = rows(
        studies,
        tmp_path,
        "path,patient,study,name,point\n"
        ',B,,,"0,0,0"\n'
        ',,1.2.3,,"0,0,0"\n'
        ',Z,,,"0,0,0"\n'
        'MR,,,,"0,0,0"\n'
        ",A,,,\n"
        ',C,,a/b,"0,0,0"\n'
        ",C,,0,0,0\n"
        'e.nii.gz,,,one,"0,0,0"\n'
        'e.nii.gz,,,two,"0,0,0"\n',
    )
    wrong = {row.line: row.wrong for row in found.values() if row.line}
    assert "patient B is said of 2 CTs: choose one by `series` or `path`" in wrong[2]
    assert "1.2.3.1 (16 files); 1.2.3.2 (16 files)" in wrong[3] or "1.2.3.2 (16 files); 1.2.3.1" in wrong[3]
    assert "expected a CT of patient Z, found none" in wrong[4]
    assert "expected a CT of path MR, found MR" in wrong[5]
    assert "expected a prompt" in wrong[6] and "can be a folder's" in wrong[7]
    assert "call it one and two" in wrong[9]
    assert 8 not in wrong, "the second line about C is a part of the first's row"


def test_rows_of_studies_are_worked_on_as_those_of_a_table(studies: Path, tmp_path: Path) -> None:
    """Also a series among others in one folder, and one with a slice that is cut off."""
    model = save(tmp_path / "half.safetensors")
    mine = shutil.copytree(studies, tmp_path / "mine")
    (mine / "flat" / "0-0003.dcm").write_bytes(b"no slice")  # of B's first date, or of anybody's in this folder
    cut = mine / "A" / "study" / "series" / "IM0016.dcm"
    cut.write_bytes(cut.read_bytes()[:300])
    (tmp_path / "prompts.csv").write_text(
        'path,patient,point\ne.nii.gz,,"0,0,0"\nmore,,"0,0,0"\nD/thin,,"0,0,0"\n,C,"0,0,0"\n,A,"0,0,0"\n'
    )
    outcomes = run(read_studies(mine, tmp_path / "prompts.csv"), tmp_path / "out", model=str(model))
    done = {one.name: (one.status, one.reason) for one in outcomes}
    assert done["e"][0] == done["f"][0] == done["D"][0] == "done"
    assert done["A"][0] == "failed" and "IM0016.dcm" in done["A"][1] and "truncated" in done["A"][1]
    assert done["C"][0] == "failed" and "0-0003.dcm in " in done["C"][1] and str(mine / "flat") in done["C"][1]
    (mine / "flat" / "0-0003.dcm").unlink()
    again = run(read_studies(mine, tmp_path / "prompts.csv"), tmp_path / "again", model=str(model))
    assert {one.name: one.status for one in again}["C"] == "done"
    mask = (tmp_path / "out" / "cases" / "e" / "mask.nii.gz").read_bytes()
    assert mask == (tmp_path / "out" / "cases" / "f" / "mask.nii.gz").read_bytes()


def test_results_within_the_studies_are_none_of_them(studies: Path, tmp_path: Path) -> None:
    """The same command finds what it found before, and what was delivered meanwhile is done without being asked."""
    model = save(tmp_path / "half.safetensors")
    mine = shutil.copytree(studies / "D", tmp_path / "mine")
    prompts, out = tmp_path / "prompts.csv", mine / "results"
    prompts.write_text('path,point\nthin,"0,0,0"\nlate.nii.gz,"0,0,0"\n')

    def again() -> dict[str, str]:
        found = read_studies(mine, prompts, out=out)
        return {one.name: one.status for one in run(found, out, model=str(model), wanted=Wanted(dicom=True))}

    assert again() == again() == {"D": "done", "line-3": "failed"}
    with pytest.raises(BatchError, match=r"holds no studies, found .*: give another"):
        read_studies(mine, prompts, out=mine)


def test_a_ct_that_was_missing_is_delivered(studies: Path, tmp_path: Path) -> None:
    model = save(tmp_path / "half.safetensors")
    (tmp_path / "mine").mkdir()
    prompts, out = tmp_path / "prompts.csv", tmp_path / "out"
    prompts.write_text('path,name,point\nlate.nii.gz,late,"0,0,0"\ne.nii.gz,,"0,0,0"\n')
    shutil.copy(studies / "e.nii.gz", tmp_path / "mine")
    before = run(read_studies(tmp_path / "mine", prompts), out, model=str(model))
    assert {one.name: one.status for one in before} == {"late": "failed", "e": "done"}
    shutil.copy(studies / "e.nii.gz", tmp_path / "mine" / "late.nii.gz")
    after = run(read_studies(tmp_path / "mine", prompts), out, model=str(model))
    assert {one.name: one.status for one in after} == {"late": "done", "e": "done"}


def test_anonymous_rows_tell_no_patient(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text('patient,name,point\nA,,"0,0,0"\nC,given,"0,0,0"\nZ,,"0,0,0"\n')
    found = read_studies(studies, tmp_path / "prompts.csv", anonymize=True)
    assert [row.name for row in found[:4]] == ["line-2", "given", "line-4", "scan-4"]
    assert not any(row.patient or row.date for row in found)


@pytest.mark.parametrize(("characters", "patient"), [("ISO_IR 192", "Pü"), ("ISO_IR 100", "Pü"), (None, " P1 ")])
def test_patients_are_called_as_they_call_themselves(tmp_path: Path, characters: str | None, patient: str) -> None:
    """In any character set: lines find them, and none is warned of as another one."""
    save_files(series(patient, SpecificCharacterSet=characters), tmp_path / "mine" / "series")
    (tmp_path / "prompts.csv").write_text(f'patient,point\n{patient.strip()},"0,0,0"\n', encoding="utf8")
    (row,) = read_studies(tmp_path / "mine", tmp_path / "prompts.csv")
    assert not row.wrong and row.patient == patient.strip()
    (done,) = run([row], tmp_path / "out", model=str(save(tmp_path / "half.safetensors")))
    assert done.patient == patient.strip() and not [line for line in done.warnings if "PatientID" in line]


def test_two_rows_of_one_name_and_files_that_are_none(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"each name once, found 'x' in the lines 2 and 3"):
        rows(studies, tmp_path, 'name,patient,point\nx,A,"0,0,0"\nx,C,"0,0,0"\n')
    with pytest.raises(BatchError, match="found size"):
        rows(studies, tmp_path, 'patient,size,point\nA,1,"0,0,0"\n')
    with pytest.raises(BatchError, match="to say which CT is meant"):
        rows(studies, tmp_path, 'name,point\nx,"0,0,0"\n')
    prompts = tmp_path / "prompts.csv"
    assert "found nothing" in refused("batch", tmp_path / "no", "--prompts", prompts, "--out", tmp_path / "out")
    assert "give --prompts" in refused("batch", studies, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_patients_that_are_alike(tmp_path: Path) -> None:
    """Two of one day are numbered; signs that no folder has are replaced."""
    for number in range(2):
        save_files(series("P/1 ü"), tmp_path / "in" / str(number))
    write_series(tmp_path / "in" / "2", CT)
    found = rows(tmp_path / "in", tmp_path, 'path,point\n0,"0,0,0"\n1,"0,0,0"\n2,"0,0,0"\n')
    assert list(found) == ["P_1-2024-01-02", "P_1-2024-01-02-2", "P1"]
