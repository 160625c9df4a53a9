"""NSCLC-Radiomics as TCIA delivers it, in any folders, with every fault; and the real patient in ../shared/data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from cohort_sources import LEFT, RIGHT, ball, ct_of, rtstruct_of, write_table, write_tcia
from dicom_series import save
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from clmsda.cohorts import Case, Cohort, CohortError
from clmsda.cohorts.clinical import read_histologies
from clmsda.cohorts.importing import NothingImported, import_cases
from clmsda.cohorts.tcia import PAPERS_HISTOLOGIES, nsclc_radiomics, tumor_region
from clmsda.images.dicom_regions import read_regions
from clmsda.measurements import measure

ADENO, SQUAMOUS = PAPERS_HISTOLOGIES
TUMOR, SMALL = ball(30.0), ball(20.0, RIGHT)


def clinical(folder: Path, **histologies: str) -> Path:
    rows = [["PatientID", "age", "Histology"], *([name, "70", value] for name, value in histologies.items())]
    return write_table(folder / "clinical.csv", rows)


def imported(source: Path, table: Path, out: Path) -> tuple[dict[str, Case], dict[str, list[str]]]:
    """Cases by name, and the reasons of exclusions by patient."""
    cohort, exclusions = import_cases(out, nsclc_radiomics(source, table))
    reasons: dict[str, list[str]] = {}
    for one in exclusions:
        reasons.setdefault(one.patient, []).append(one.reason)
    return {case.case: case for case in cohort.cases}, reasons


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient without fault of each histology, and patients that are left out for what the table says."""
    folder = tmp_path_factory.mktemp("download")
    write_tcia(folder, "A", {"Lung-Left": SMALL, "GTV-1": TUMOR})
    write_tcia(folder, "B", {"gtv pre": SMALL})
    write_tcia(folder, "C", {"GTV-1": TUMOR})
    (folder / "metadata.csv").write_text("what the retriever leaves beside\n")
    return folder


TABLE = {"A": "Adenocarcinoma ", "B": "squamous  cell carcinoma", "C": "large cell", "D": "NA", "E": "nos", "F": ADENO}


def test_tumors_of_both_histologies_become_cases(download: Path, tmp_path: Path) -> None:
    cases, reasons = imported(download, clinical(tmp_path, **TABLE), tmp_path / "cohort")
    assert cases.keys() == {"A", "B"}
    a, b = cases["A"], cases["B"]
    assert (a.patient, a.roi, a.histology, b.roi, b.histology) == ("A", "GTV-1", ADENO, "gtv pre", SQUAMOUS)
    assert a.mask.endswith("1-1.dcm") and a.image.endswith("0.000000-NA-82046") and a.series
    for case, truth in ((a, TUMOR), (b, SMALL)):
        expected = measure(truth)
        assert case.size_mm == pytest.approx(expected.size_mm, abs=1e-3)
        assert case.volume_ml == pytest.approx(expected.volume_ml, abs=1e-4)
        np.testing.assert_allclose(case.center_mm, expected.center_mm, atol=1e-3)
        assert Cohort.open(tmp_path / "cohort").slab(case)[1].voxels.sum() == truth.voxels.sum()
    assert reasons == {
        "C": ["histology is large cell, not adenocarcinoma or squamous cell carcinoma"],
        "D": ["the clinical table does not know the histology"],
        "E": ["histology is nos, not adenocarcinoma or squamous cell carcinoma"],
        "F": ["no CT, RTSTRUCT or SEG of this patient in the download"],
    }


def flattened(source: Path, target: Path) -> Path:
    """The same files in one folder, under names that say nothing."""
    target.mkdir()
    files = sorted(source.rglob("*.dcm"))
    Random(0).shuffle(files)
    for number, file in enumerate(files):
        shutil.copyfile(file, target / f"{number:08d}")
    return target


def test_folders_and_names_do_not_matter(download: Path, tmp_path: Path) -> None:
    table = clinical(tmp_path, **TABLE)
    nested, _ = imported(download, table, tmp_path / "nested")
    flat, reasons = imported(flattened(download, tmp_path / "flat"), table, tmp_path / "cohort")
    assert Cohort.open(tmp_path / "nested").digest == Cohort.open(tmp_path / "cohort").digest
    assert nested.keys() == flat.keys() and len(reasons) == 4


def test_other_histologies_may_be_asked_for(download: Path, tmp_path: Path) -> None:
    table = clinical(tmp_path, **TABLE)
    assert [one.case for one in nsclc_radiomics(download, table, ["Large cell"]).candidates] == ["C"]
    everyone = nsclc_radiomics(download, table, ["all"])
    assert [one.case for one in everyone.candidates] == ["A", "B", "C"]
    assert {one.patient for one in everyone.exclusions} == {"D", "E", "F"}
    with pytest.raises(CohortError, match="no histology small cell; found adenocarcinoma, large cell, nos, squamous"):
        nsclc_radiomics(download, table, [ADENO, "small cell"])


def test_a_patient_without_a_row_is_left_out(download: Path, tmp_path: Path) -> None:
    cases, reasons = imported(download, clinical(tmp_path, A=ADENO, B=SQUAMOUS), tmp_path / "cohort")
    assert cases.keys() == {"A", "B"}
    assert reasons == {"C": ["not in the clinical table, so its histology is unknown"]}


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "two tumors": (
        lambda folder: write_tcia(folder, "X", {"GTV-2": TUMOR, "GTV-3": SMALL}),
        "1-1.dcm has 2 tumors, none of them named GTV-1: GTV-2, GTV-3",
    ),
    "no tumor": (
        lambda folder: write_tcia(folder, "X", {"Lung-Left": TUMOR}),
        "no region whose name begins with GTV, found 1-1.dcm: Lung-Left",
    ),
    "an empty region": (
        lambda folder: write_tcia(folder, "X", {"GTV-1": None, "Lung-Left": TUMOR}),
        "ROI 'GTV-1' in 1-1.dcm has no closed contour: expected at least one",
    ),
    "no structure set": (lambda folder: save(ct_of("X", TUMOR), folder), "no RTSTRUCT and no SEG"),
    "no CT": (
        lambda folder: save([rtstruct_of(ct_of("X"), {"GTV-1": TUMOR})], folder),
        "no CT series, found RTSTRUCT",
    ),
    "another series": (
        lambda folder: save([*(ct := ct_of("X")), rtstruct_of(ct, {"GTV-1": TUMOR}, "1.2.3")], folder),
        "was drawn on series 1.2.3, which is no CT in the download: fetch it",
    ),
    "two structure sets": (
        lambda folder: save([*(ct := ct_of("X")), *[rtstruct_of(ct, {"GTV-1": TUMOR})] * 2], folder),
        "2 files with a tumor, expected one: keep one of them (",
    ),
    "a gap": (
        lambda folder: write_tcia(folder, "X", {"GTV-1": TUMOR}, edit=lambda ct: ct.pop(5)),
        "1 missing slice between",
    ),
    "another grid": (
        lambda folder: write_tcia(folder, "X", {"GTV-1": TUMOR}, edit=coarser),
        "lies on slice -",
    ),
    "no patient": (lambda folder: write_tcia(folder, "", {"GTV-1": TUMOR}), "the files have no PatientID"),
}


def coarser(ct: list[Dataset]) -> None:
    """The CT ends below the tumor."""
    for dataset in ct:
        dataset.ImagePositionPatient[2] += 300


@pytest.mark.parametrize("fault", FAULTS)
def test_a_patient_with_a_fault_is_left_out_with_the_reason(fault: str, tmp_path: Path) -> None:
    write, reason = FAULTS[fault]
    (tmp_path / "download").mkdir()
    write(tmp_path / "download")
    listing = nsclc_radiomics(tmp_path / "download", clinical(tmp_path, X=ADENO), ["all"])
    with pytest.raises(NothingImported) as nothing:
        import_cases(tmp_path / "cohort", listing)
    (found, *others) = [one for one in nothing.value.exclusions if reason in one.reason]
    assert not others
    assert found.source.startswith(str(tmp_path / "download"))
    assert reason in (tmp_path / "cohort" / "exclusions.csv").read_text().replace('""', '"')


def test_a_structure_set_that_names_no_series_goes_with_the_only_ct_of_its_study(tmp_path: Path) -> None:
    ct, other = ct_of("X", TUMOR), ct_of("X")
    structures = rtstruct_of(ct, {"GTV-1": TUMOR})
    del structures.ReferencedFrameOfReferenceSequence
    save([*ct, structures], tmp_path / "download" / "a")
    save(other, tmp_path / "download" / "b")
    table = clinical(tmp_path, X=ADENO)
    (candidate,) = nsclc_radiomics(tmp_path / "download", table).candidates
    assert candidate.series == ct[0].SeriesInstanceUID and len(candidate.files) == len(ct)
    for dataset in other:
        dataset.StudyInstanceUID = ct[0].StudyInstanceUID
    save(other, tmp_path / "download" / "b")
    (exclusion,) = nsclc_radiomics(tmp_path / "download", table).exclusions
    assert "does not say on which series it was drawn; its study has 2 CT series" in exclusion.reason


def test_of_several_series_the_one_that_was_drawn_on_is_read(tmp_path: Path) -> None:
    """Another CT of the same study, and a localizer in the CT's own series."""
    ct, other, localizer = ct_of("X", TUMOR), ct_of("X"), ct_of("X")[0]
    for dataset in other:
        dataset.StudyInstanceUID = ct[0].StudyInstanceUID
    localizer.SeriesInstanceUID, localizer.ImageType = ct[0].SeriesInstanceUID, ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save([*other, localizer, *ct, rtstruct_of(ct, {"GTV-1": TUMOR})], tmp_path / "download")
    cases, _ = imported(tmp_path / "download", clinical(tmp_path, X=ADENO), tmp_path / "cohort")
    assert cases["X"].series == ct[0].SeriesInstanceUID
    assert cases["X"].volume_ml == pytest.approx(measure(TUMOR).volume_ml, abs=1e-4)


def test_of_two_tumors_the_first_is_studied_and_the_other_named(tmp_path: Path) -> None:
    write_tcia(tmp_path / "download", "X", {"GTV-2": SMALL, "gtv1": TUMOR})
    cases, reasons = imported(tmp_path / "download", clinical(tmp_path, X=ADENO), tmp_path / "cohort")
    assert cases["X"].roi == "gtv1"
    assert cases["X"].volume_ml == pytest.approx(measure(TUMOR).volume_ml, abs=1e-4)
    assert reasons == {"X": ["GTV-2 is a further tumor of this patient: gtv1 is the one that is studied"]}


def test_a_damaged_file_is_named_and_the_others_are_imported(tmp_path: Path) -> None:
    for patient in ("X", "Y"):
        write_tcia(tmp_path / "download", patient, {"GTV-1": TUMOR})
    damaged = sorted((tmp_path / "download" / "X").rglob("*.dcm"))[3]
    damaged.write_bytes(damaged.read_bytes()[:300])
    cases, reasons = imported(tmp_path / "download", clinical(tmp_path, X=ADENO, Y=ADENO), tmp_path / "cohort")
    assert cases.keys() == {"Y"}
    assert "missing slice" in reasons["X"][0]
    assert "truncated" in reasons[""][0]
    listing = nsclc_radiomics(tmp_path / "download", clinical(tmp_path, X=ADENO, Y=ADENO))
    assert [one.source for one in listing.exclusions] == [str(damaged)]


def test_a_segmentation_serves_where_there_is_no_structure_set(tmp_path: Path) -> None:
    """As TCIA's: labels are those of coded types, descriptions tell the regions apart."""
    highdicom = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    ct = ct_of("X", TUMOR)
    for dataset in ct:
        dataset.SeriesNumber = 1
    paths = save(ct, tmp_path / "download")
    descriptions = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL",
            tracking_uid=generate_uid(), tracking_id=f"{number}",
        )
        for number, label in ((1, "Lung"), (2, "Neoplasm, Primary"))
    ]  # fmt: skip
    descriptions[1].SegmentDescription = "GTV-1"
    seg = highdicom.seg.Segmentation(
        [dcmread(path) for path in paths], np.stack([SMALL.voxels, TUMOR.voxels], axis=-1), "BINARY", descriptions,
        generate_uid(), 2, generate_uid(), 1, "tests", "tests", "1", "1",
    )  # fmt: skip
    save([seg], tmp_path / "download", name="SEG{}.dcm")
    cases, reasons = imported(tmp_path / "download", clinical(tmp_path, X=ADENO), tmp_path / "cohort")
    assert cases["X"].volume_ml == pytest.approx(measure(TUMOR).volume_ml, abs=1e-4)
    assert (cases["X"].roi, reasons) == ("GTV-1", {})


@pytest.mark.parametrize(
    ("names", "chosen", "others"),
    [
        (("GTV-1", "GTV-2", "Lung"), "GTV-1", ["GTV-2"]),
        (("gtv 1", "GTV-10"), "gtv 1", ["GTV-10"]),
        (("Heart", "GTVp"), "GTVp", []),
        (("GTVp", "GTVn"), None, ["GTVp", "GTVn"]),
        (("PTV", "Lung"), None, []),
        ((), None, []),
    ],
)
def test_which_region_is_the_tumor(names: tuple[str, ...], chosen: str | None, others: list[str]) -> None:
    assert tumor_region(names) == (chosen, others)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected the columns PatientID and Histology, found none"),
        ("PatientID,histo\nA,x\n", "found patientid, histo"),
        ("Histology,patientid\nnos,A\nlarge cell,A\n", "line 3: A is large cell here and nos above"),
        ("PatientID,Histology\n,nos\n", "line 2: expected a PatientID"),
    ],
)
def test_a_clinical_table_that_cannot_be_used_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(CohortError, match=said):
        read_histologies(tmp_path / "table.csv")
    with pytest.raises(CohortError, match="cannot read the clinical table"):
        read_histologies(tmp_path / "missing.csv")


def test_a_source_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "missing", clinical(tmp_path, A=ADENO)):
        with pytest.raises(CohortError, match="expected a folder"):
            nsclc_radiomics(source, clinical(tmp_path, A=ADENO))


def test_the_real_patient_is_imported_with_the_real_table(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "nsclc-radiomics"
    (table,) = source.glob("*.csv")
    papers = nsclc_radiomics(source, table)
    assert not papers.candidates and len(papers.exclusions) == 422  # LUNG1-001 is a large cell carcinoma
    listing = nsclc_radiomics(source, table, ["large cell"])
    cohort, exclusions = import_cases(tmp_path, listing)
    (case,) = cohort.cases
    assert (case.case, case.patient, case.roi, case.histology) == ("LUNG1-001", "LUNG1-001", "GTV-1", "large cell")
    assert case.volume_ml == pytest.approx(156, abs=1) and case.size_mm == pytest.approx(94, abs=2)
    assert (case.size_group, case.pixel_mm, case.slice_mm) == (3, 0.97656, 3.0)
    assert case.tumor_slices[1] - case.tumor_slices[0] + 1 == 21
    assert len(exclusions) == 421


def test_real_regions_are_read_without_their_contours(shared_data: Path) -> None:
    (path,) = (shared_data / "nsclc-radiomics").rglob("3.000000*/1-1.dcm")
    regions = read_regions(path)
    assert regions.names == ("GTV-1", "Spinal-Cord", "Lung-Left", "Lung-Right")
    assert len(regions.references) == 1


def test_the_middle_is_where_the_ball_was(tmp_path: Path) -> None:
    write_tcia(tmp_path / "download", "X", {"GTV-1": ball(24.0, LEFT)})
    cases, _ = imported(tmp_path / "download", clinical(tmp_path, X=ADENO), tmp_path / "cohort")
    np.testing.assert_allclose(cases["X"].center_mm, LEFT, atol=2.6)
