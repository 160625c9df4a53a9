"""Data sets of the Decathlon and of nnU-Net, CSVs and plain folders: what is found, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cohort_sources import (
    LEFT,
    RIGHT,
    ball,
    chest,
    ct_of,
    rtstruct_of,
    write_folder,
    write_json,
    write_pair,
    write_table,
)
from dicom_series import save

from clmsda.cohorts import CohortError
from clmsda.cohorts.candidates import Listing
from clmsda.cohorts.importing import import_cases
from clmsda.cohorts.layouts import msd, nnunet
from clmsda.cohorts.pairs import pairs
from clmsda.images import write_image
from clmsda.measurements import measure

DECATHLON = {
    "name": "Lung",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "cancer"},
    "training": [
        {"image": "./imagesTr/lung_001.nii.gz", "label": "./labelsTr/lung_001.nii.gz"},
        {"image": "./imagesTr/lung_003.nii.gz", "label": "./labelsTr/lung_003.nii.gz"},
    ],
    "test": ["./imagesTs/lung_002.nii.gz"],
}
NNUNET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "tumor": 1},
    "numTraining": 2,
    "file_ending": ".mha",
}


def names(listing: Listing) -> list[str]:
    return [candidate.case for candidate in listing.candidates]


def reasons(listing: Listing) -> dict[str, str]:
    return {exclusion.patient: exclusion.reason for exclusion in listing.exclusions}


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_a_decathlon_task_is_imported(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", DECATHLON)
    for number, size in ((1, 20.0), (3, 40.0)):
        name = f"lung_{number:03d}.nii.gz"
        write_pair(tmp_path / "imagesTr" / name, tmp_path / "labelsTr" / name, ball(size))
    touch(tmp_path, "imagesTr/._lung_001.nii.gz", "imagesTr/lung_009.nii.gz")
    listing = msd(tmp_path)
    assert reasons(listing) == {
        "lung_002": "of the test part, which comes without masks",
        "lung_009": "not among the training cases of dataset.json",
    }
    cohort, exclusions = import_cases(tmp_path / "cohort", listing)
    assert [(case.case, case.patient, case.roi) for case in cohort.cases] == [
        ("lung_001", "lung_001", "1"), ("lung_003", "lung_003", "1"),
    ]  # fmt: skip
    assert cohort.cases[1].size_mm == pytest.approx(measure(ball(40.0)).size_mm, abs=1e-3)
    assert len(exclusions) == 2


def test_an_nnunet_data_set_is_imported(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", NNUNET | {"labels": {"background": 0, "lung": 1, "tumor": 2}})
    tumor = ball(20.0, RIGHT)
    write_pair(tmp_path / "imagesTr" / "p_1_0000.mha", tmp_path / "labelsTr" / "p_1.mha", ball(50.0, LEFT), tumor)
    touch(tmp_path, "imagesTr/p_2_0000.mha", "labelsTr/p_3.mha", "imagesTr/p_1_0001.mha", "labelsTr/notes.txt")
    listing = nnunet(tmp_path)
    assert reasons(listing) == {"p_2": "no mask in labelsTr", "p_3": "no image p_3_0000.mha in imagesTr"}
    cohort, exclusions = import_cases(tmp_path / "cohort", listing)
    (case,) = cohort.cases
    assert (case.case, case.roi, len(exclusions)) == ("p_1", "2", 2)
    assert case.volume_ml == pytest.approx(measure(tumor).volume_ml, abs=1e-4)


def test_of_several_channels_the_ct_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", NNUNET | {"channel_names": {"0": "PET", "1": "CT"}})
    touch(tmp_path, "imagesTr/a_0000.mha", "imagesTr/a_0001.mha", "labelsTr/a.mha")
    (candidate,) = nnunet(tmp_path).candidates
    assert candidate.image.name == "a_0001.mha"


@pytest.mark.parametrize(
    ("labels", "wanted", "found"),
    [
        ({"background": 0, "thing": 3}, "", (3,)),
        ({"background": 0, "lung": 1, "Lung Tumor": 2}, "", (2,)),
        ({"background": 0, "whole tumor": [1, 2], "necrosis": 2}, "", (1, 2)),
        ({"background": 0, "primary": 1, "node": 2}, "PRIMARY", (1,)),
        ({"background": 0, "primary": 1, "node": 2}, "2", (2,)),
    ],
)
def test_the_label_that_is_tumor(tmp_path: Path, labels: dict, wanted: str, found: tuple[int, ...]) -> None:
    write_json(tmp_path / "dataset.json", NNUNET | {"labels": labels})
    touch(tmp_path, "imagesTr/a_0000.mha", "labelsTr/a.mha")
    assert nnunet(tmp_path, wanted).candidates[0].labels == found


@pytest.mark.parametrize(
    ("labels", "wanted", "said"),
    [
        (
            {"background": 0, "primary": 1, "node": 2},
            "",
            "expected one label that is tumor, found primary = 1, node = 2",
        ),
        ({"background": 0, "tumor a": 1, "tumor b": 2}, "", "choose with --label NAME"),
        ({"background": 0, "tumor": 1}, "lesion", "expected a label lesion, found tumor = 1"),
        ({"background": 0, "tumor": 1}, "0", "expected a label 0"),
        ({"background": 0}, "", "found none"),
    ],
)
def test_labels_that_do_not_tell_are_refused(tmp_path: Path, labels: dict, wanted: str, said: str) -> None:
    write_json(tmp_path / "dataset.json", NNUNET | {"labels": labels})
    with pytest.raises(CohortError, match=said):
        nnunet(tmp_path, wanted)


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (msd, NNUNET, "training: Field required; .* is it of kind nnunet"),
        (nnunet, DECATHLON, "is it of kind msd"),
        (msd, DECATHLON | {"training": [{"image": "a.nii"}]}, "training.0.label: Field required"),
        (nnunet, NNUNET | {"file_ending": ".png"}, "expected file_ending to be one of .nii, .* found '.png'"),
        (msd, ["a"], "dataset.json is not as expected: it: "),
    ],
)
def test_a_description_that_is_wrong_is_refused(tmp_path: Path, read: Any, content: object, said: str) -> None:
    write_json(tmp_path / "dataset.json", content)
    with pytest.raises(CohortError, match=said) as refusal:
        read(tmp_path)
    assert "\n" not in str(refusal.value)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(CohortError, match="it: Invalid JSON"):
        read(tmp_path)
    with pytest.raises(CohortError, match=r"cannot read .*give the folder that holds dataset.json"):
        read(tmp_path / "missing")


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("images/P1.nii.gz", "masks/P1.nii.gz", "P1"),
        ("imagesTr/P1.nii.gz", "labelsTr/P1.nrrd", "P1"),
        ("a/images/P1.nii", "a/segmentations/P1.nii", "P1"),
        ("P1.nii.gz", "P1_mask.nii.gz", "P1"),
        ("P1-ct.mha", "P1-seg.mha", "P1"),
        ("P1.nii", "P1.label.nii", "P1"),
        ("P1/ct.nii.gz", "P1/nodule.nii.gz", "P1"),
        ("P1/image.nii.gz", "P1/GTV.nii.gz", "P1"),
        ("site 2/P1/ct.nii.gz", "site 2/P1/mask.nii.gz", "P1"),
        ("tumor/P1_ct.nii", "tumor/P1_mask.nii", "P1"),
    ],
)
def test_pairs_are_found_by_their_names(tmp_path: Path, image: str, mask: str, name: str) -> None:
    listing = pairs(touch(tmp_path, image, mask, "README.md", ".hidden/x.nii"))
    (candidate,) = listing.candidates
    assert (candidate.case, candidate.patient, listing.exclusions) == (name, name, ())
    assert (candidate.image, candidate.mask) == (tmp_path / image, tmp_path / mask)


def test_what_has_no_partner_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a_mask.nii", "b.nii", "c_mask.nii", "d.nii", "d.nrrd", "d_mask.nii")
    listing = pairs(tmp_path)
    assert names(listing) == ["a"]
    assert reasons(listing) == {
        "b": "expected one image and one mask, found 1 images and 0 masks (b.nii)",
        "c": "expected one image and one mask, found 0 images and 1 masks (c_mask.nii)",
        "d": "expected one image and one mask, found 2 images and 1 masks (d.nii, d.nrrd, d_mask.nii)",
    }


@pytest.mark.parametrize(("files", "found"), [((), "none"), (("a_mask.nii",), "only masks")])
def test_a_folder_without_images_is_refused(tmp_path: Path, files: tuple[str, ...], found: str) -> None:
    with pytest.raises(CohortError, match=rf"found {found}; where names do not tell, give a CSV"):
        pairs(touch(tmp_path, *files))


def test_a_csv_names_pairs_of_any_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20.0})
    ct = ct_of("P", ball(24.0))
    save(ct, tmp_path / "dicom")
    save([rtstruct_of(ct, {"Heart": ball(50.0), "Tumor": ball(24.0)})], tmp_path / "rt", name="rt{}.dcm")
    write_table(
        tmp_path / "pairs.csv",
        [
            ["case", "patient", "image", "mask", "roi", "histology", "label", "collection"],
            ["one", "P1", "images/a.nii", "masks/a.nii", "", "", "1", "NSCLC"],
            ["two", "P1", "dicom", "rt/rt1.dcm", "Tumor", "Adenocarcinoma", "", ""],
            ["three", "", "dicom", "rt/rt1.dcm", "", "", "", ""],
        ],
    )
    cohort, (exclusion,) = import_cases(tmp_path / "cohort", pairs(tmp_path / "pairs.csv"))
    one, two = cohort.cases
    assert [(c.case, c.patient, c.roi, c.histology, c.collection) for c in (one, two)] == [
        ("one", "P1", "1", "", "NSCLC"), ("two", "P1", "Tumor", "adenocarcinoma", ""),
    ]  # fmt: skip
    assert two.size_mm == pytest.approx(measure(ball(24.0)).size_mm, abs=1e-3)
    assert exclusion.patient == "three" and "2 regions: choose one by name: 'Heart', 'Tumor'" in exclusion.reason


def test_a_table_beside_a_folder_tells_who_its_cases_are(tmp_path: Path) -> None:
    write_folder(tmp_path / "cubes", {"a": 20.0, "b": 20.0})
    rows = [["case", "patient", "histology", "collection"], ["cubes/a", "P1", "Adenocarcinoma", "NSCLC"]]
    write_table(tmp_path / "lesions.csv", [*rows, ["others/b", "P2", "Other", "LIDC"]])
    a, b = pairs(tmp_path / "cubes").candidates
    assert (a.case, a.patient, a.histology, a.collection) == ("a", "P1", "adenocarcinoma", "NSCLC")
    assert (b.case, b.patient, b.histology, b.collection) == ("b", "b", "", "")


def test_a_region_of_a_voxel_file_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20.0, "b": 20.0})
    rows = [["image", "mask", "roi"], ["images/a.nii", "masks/a.nii", "GTV-1"], ["images/b.nii", "masks/b.nii", ""]]
    cohort, (exclusion,) = import_cases(tmp_path / "cohort", pairs(write_table(tmp_path / "pairs.csv", rows)))
    assert [case.case for case in cohort.cases] == ["b"]
    assert "has labels without names: leave out the region's name 'GTV-1'" in exclusion.reason


def test_a_label_may_be_asked_for_in_all_masks(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.nii", tmp_path / "a_mask.nii", ball(50.0, LEFT), ball(20.0, RIGHT))
    cohort, _ = import_cases(tmp_path / "cohort", pairs(tmp_path, "2"))
    assert cohort.cases[0].volume_ml == pytest.approx(measure(ball(20.0, RIGHT)).volume_ml, abs=1e-4)
    with pytest.raises(CohortError, match="expected --label to be a number"):
        pairs(tmp_path, "tumor")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "expected the columns image and mask, .*; found none"),
        ([["image", "label"]], "found image, label"),
        ([["image", "mask", "pateint"]], "found image, mask, pateint"),
        ([["image", "mask"], ["a.nii", ""]], "line 2: expected an image and a mask, found a.nii"),
        ([["image", "mask"], ["a.nii", "b.nii", "c"]], "line 2: found more cells than columns"),
        ([["image", "mask", "label"], ["a.nii", "b.nii", "one"]], "line 2: expected label to be a number, found 'one'"),
    ],
)
def test_a_csv_that_is_wrong_is_refused(tmp_path: Path, rows: list[list[str]], said: str) -> None:
    path = write_table(tmp_path / "pairs.csv", rows)
    with pytest.raises(CohortError, match=said):
        pairs(path)
    with pytest.raises(CohortError, match="cannot read"):
        pairs(tmp_path / "missing.csv")
    path.write_bytes(b"image,mask\n\xff\xfe")
    with pytest.raises(CohortError, match="not a table of comma-separated values"):
        pairs(path)


def test_real_tumors_are_imported_by_a_csv(shared_data: Path, tmp_path: Path) -> None:
    lidc, ibsi = shared_data / "lidc-idri" / "LIDC-IDRI-0001", shared_data / "ibsi-ct-phantom"
    rows = [
        ["case", "image", "mask", "roi"],
        ["LIDC", lidc / "ct.nii.gz", lidc / "nodule.nii.gz", ""],
        ["IBSI", ibsi / "dicom", ibsi / "dicom" / "DCM_RS_00060.dcm", "GTV-1"],
        ["IBSI voxels", ibsi / "dicom", ibsi / "mask.nii.gz", ""],
    ]
    cohort, exclusions = import_cases(tmp_path / "cohort", pairs(write_table(tmp_path / "pairs.csv", rows)))
    contours, voxels, nodule = cohort.cases
    assert not exclusions
    assert nodule.size_mm == pytest.approx(32, abs=1) and nodule.volume_ml == pytest.approx(6.7, abs=0.1)
    assert contours.volume_ml == pytest.approx(358.7, abs=0.1)
    assert contours.slab_crc32 == voxels.slab_crc32  # others turned the same contours into voxels


def test_a_mask_that_is_an_image_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20.0, "b": 20.0})
    write_image(chest(), tmp_path / "masks" / "a.nii")
    cohort, (exclusion,) = import_cases(tmp_path / "cohort", pairs(tmp_path))
    assert len(cohort.cases) == 1 and "(is it the CT?)" in exclusion.reason
