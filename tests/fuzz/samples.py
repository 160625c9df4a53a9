"""Valid inputs, made by the tests' own generators, always with the same bytes: a few slices of 16 x 16 pixels."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch
from clinic import Clinic, clinic
from command_line import clmsda, save_constant_model
from dicom_series import compressed, contours_of, rtstruct, save, slices
from presentation_states import presentation
from pydicom.uid import JPEGLosslessSV1, RLELossless, generate_uid

from clmsda import dicom_objects
from clmsda.cohorts import Cohort, Split, add_case, hold_out_test
from clmsda.geometry import Grid, Volume
from clmsda.images import write_image, write_mask
from clmsda.phantoms.backgrounds import Background
from clmsda.training import checkpoint
from clmsda.training.config import TrainingConfig
from fuzz.cases import Files

GRID = Grid.axial((5, 16, 16), (3.0, 2.0, 2.0), center_mm=(40.0, 10.0, -200.0))
SMALL_TOML = """
name = "small"
seed = 3
variant = "CL-MSDA-Net"

[data]
source = "phantoms"
samples_per_epoch = 4
workers = 0

[patches]
shape = [32, 32]
reference_spacing_mm = 2.5
mean_size_mm = 25.0

[network]
width = 4
levels = 2

[views]
size_error = 1.5
assumed_mm = [6.0, 150.0]
augmentation = { shift = 4 }

[loss]
weight = 0.5

[optimization]
learning_rate = 1e-3
epochs = 2
precision = "auto"
"""
STUDY_TOML = """
name = "small"
title = "Small"
seeds = [1, 2]
protocols = ["oracle", "prompted"]

[cohort]
folder = "cohort"

[split]
test_fraction = 0.4
validation_fraction = 0.3

[click]
jitter = 0.5
per_case = 2

[training]
base = "training.toml"
data = { samples_per_slice = 1, workers = 0, source = "cohort" }
optimization = { epochs = 1, batch_size = 4 }

[[variants]]
name = "U-Net"
variant = "U-Net"

[[variants]]
name = "Sized"
variant = "CL-MSDA-Net"
views = { size_error = 2.0 }

[[peers]]
name = "Region growing"
method = "region-growing"
multiplier = 2.5
"""


def ct() -> Volume:
    """Lung on the left, tissue on the right, in the lung two balls."""
    k, j, i = np.indices(GRID.shape)
    hu = np.where(i < 10, -850, 20) + (k + 3 * j + 7 * i) % 23
    hu[labels().voxels > 0] = 40
    return Volume(hu.astype(np.int16), GRID, "ct")


def labels() -> Volume:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[1:4, 2:7, 1:6] = 1
    voxels[1:3, 9:14, 3:8] = 2
    return Volume(voxels, GRID, "labels")


@contextmanager
def same_uids() -> Iterator[None]:
    """UIDs from a fixed seed, so that a case damages the same bytes tomorrow."""
    drawn = random.Random(0)
    with (
        mock.patch("uuid.uuid4", lambda: uuid.UUID(int=drawn.getrandbits(127) | 1 << 126)),
        mock.patch("secrets.randbelow", lambda below: drawn.randrange(below // 2, below)),
    ):
        yield


@cache
def all_samples() -> dict[str, Files]:
    """Every sample's files by its name."""
    found: dict[str, Files] = {}
    with TemporaryDirectory() as folder, same_uids():
        for number, make in enumerate(
            (_series, _objects, _voxel_files, _measurements, _cohort, _study, _tensors, _lists)
        ):
            root = Path(folder, str(number))
            for name, path in make(root):
                found[name] = _read(path)
    return found


def _read(path: Path) -> Files:
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


Made = Iterator[tuple[str, Path]]


def _series(root: Path) -> Made:
    """CT series: plain, implicit, compressed, several frames in a file, and in a zip."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    volume = ct()
    save(slices(volume), root / "plain")
    yield "series", root / "plain"
    for name, edit in (("rle", compressed(RLELossless)), ("jpeg", compressed(JPEGLosslessSV1))):
        packed = slices(volume)
        for number, dataset in enumerate(packed):
            edit(dataset, number)
        save(packed, root / name)
        yield f"series-{name}", root / name
    implicit = slices(volume, slope=0.5)
    for dataset in implicit:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    save(implicit, root / "implicit")
    yield "series-implicit", root / "implicit"
    enhanced = LegacyConvertedEnhancedCTImage(slices(volume, slope=2), generate_uid(), 2, generate_uid(), 1)
    (root / "enhanced").mkdir()
    enhanced.save_as(root / "enhanced" / "frames.dcm")
    yield "series-enhanced", root / "enhanced"
    yield "zip", _zipped(root / "plain", root / "zip" / "ct.zip")


def _zipped(folder: Path, path: Path) -> Path:
    import zipfile

    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(f"ct/{file.name}"), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path.parent


@cache
def _clinic_in(root: Path) -> Clinic:
    return clinic(root, ct(), labels())


def _objects(root: Path) -> Made:
    """SEG, RTSTRUCT and SR of both lesions, as we write them and as others do."""
    case = _clinic_in(root / "clinic")
    for name, dataset in (
        ("seg", dicom_objects.build_seg(case.source, case.findings)),
        ("seg-labelmap", dicom_objects.build_seg(case.source, case.findings, labelmap=True)),
        ("rtstruct", dicom_objects.build_rtstruct(case.source, case.findings)),
    ):
        (root / name).mkdir()
        dicom_objects.write_dataset(dataset, root / name / "mask.dcm")
        yield name, root / name
    other = rtstruct({f"GTV-{label}": contours_of(labels(), label) for label in (1, 2)})
    save([other], root / "rtstruct-plain", name="mask.dcm")
    yield "rtstruct-plain", root / "rtstruct-plain"
    seg = dicom_objects.build_seg(case.source, case.findings)
    (root / "sr").mkdir()
    dicom_objects.write_dataset(dicom_objects.build_sr(case.source, case.findings, seg), root / "sr" / "report.dcm")
    yield "sr", root / "sr"
    shutil.copytree(case.folder, root / "lines" / "ct")
    shutil.copy(root / "sr" / "report.dcm", root / "lines" / "report.dcm")
    presentation(case, root / "lines" / "state.dcm", [(2, [[3.0, 4.0], [9.0, 8.0]])])
    yield "lines", root / "lines"


def _voxel_files(root: Path) -> Made:
    """CT and mask as NIfTI, NRRD and MetaImage: packed or not, whole or with the voxels apart."""
    for name, file in (("nii", "ct.nii"), ("nii.gz", "ct.nii.gz"), ("nrrd", "ct.nrrd"), ("mha", "ct.mha")):
        (root / name).mkdir(parents=True)
        write_image(ct(), root / name / file)
        yield f"ct-{name}", root / name
        (root / f"mask-{name}").mkdir()
        write_mask(labels(), root / f"mask-{name}" / file.replace("ct", "mask"))
        yield f"mask-{name}", root / f"mask-{name}"
    image = sitk.GetImageFromArray(ct().voxels.astype(np.float32))
    image.SetSpacing((2.0, 2.0, 3.0))
    for name in ("nhdr", "mhd", "raw.nrrd", "raw.mha", "float.nii"):
        (root / name).mkdir()
        sitk.WriteImage(image, str(root / name / f"ct.{name.rpartition('.')[2]}"), useCompression=False)
        yield f"ct-{name}", root / name


def _measurements(root: Path) -> Made:
    """The JSON of `clmsda measure`."""
    root.mkdir()
    write_image(ct(), root / "ct.nii")
    write_mask(labels(), root / "mask.nii")
    (root / "json").mkdir()
    done = clmsda("measure", root / "mask.nii", "--image", root / "ct.nii", "--json", root / "json" / "measured.json")
    assert done.returncode == 0, done.stderr
    values = json.loads((root / "json" / "measured.json").read_text())
    values["mask"] = "mask.nii"
    values["scan"] |= {"date": "2024-01-02", "slice_thickness_mm": 3.0, "patient_check": "a1f3"}
    values["lesions"][0] |= {"tracking_uid": "1.2.3.4.5", "organ": "lung"}
    (root / "json" / "measured.json").write_text(json.dumps(values))
    yield "measured", root / "json"


def _cohort(root: Path) -> Made:
    """A cohort of five small cases, and a split of it."""
    for number in range(5):
        add_case(
            root / "cohort", f"case-{number}", ct(), labels_of(1), image_path="", mask_path="", patient=f"P{number}"
        )
    (root / "cohort" / ".lock").unlink(missing_ok=True)
    yield "cohort", root / "cohort"
    cohort = Cohort.open(root / "cohort")
    (root / "split").mkdir()
    Split(cohort.digest, 0, hold_out_test(cohort.cases, 0.4, 0.3, 0)).write(root / "split" / "split.json")
    yield "split", root / "split"


def labels_of(label: int) -> Volume:
    return Volume((labels().voxels == label).astype(np.uint8), GRID, "mask")


def _study(root: Path) -> Made:
    """A training TOML, a study's TOML with its base, and what a study's folder holds of text."""
    from clmsda.studies.config import read_study
    from clmsda.studies.folder import prepare
    from clmsda.studies.score_rows import SCORES

    for name, file, text in (("training", "training.toml", SMALL_TOML), ("study", "study.toml", STUDY_TOML)):
        (root / name).mkdir(parents=True)
        (root / name / file).write_text(text)
    (root / "study" / "training.toml").write_text(SMALL_TOML.replace('variant = "CL-MSDA-Net"\n', ""))
    yield "training", root / "training"
    yield "study", root / "study"
    for number in range(5):
        add_case(
            root / "cohort", f"case-{number}", ct(), labels_of(1), image_path="", mask_path="", patient=f"P{number}"
        )
    study = read_study(root / "study" / "study.toml", [f'cohort.folder="{root / "cohort"}"'])
    prepare(study, root / "out")
    out = root / "results"
    out.mkdir()
    (out / "study.json").write_bytes((root / "out" / "study.json").read_bytes())
    line = {"epoch": 0, "seconds": 1.5, "learning_rate": 1e-4, "total": 0.5, "f1": 0.25}
    (out / "metrics.jsonl").write_text("".join(json.dumps(line | {"epoch": epoch}) + "\n" for epoch in range(3)))
    cells = dict.fromkeys(SCORES, "1.5") | {"variant": "U-Net", "case": "case-0", "protocol": "oracle"}
    text = ",".join(SCORES) + "\n" + ",".join(cells[name] for name in SCORES) + "\n"
    (out / "scores.csv").write_text(text)
    yield "results", out


def _tensors(root: Path) -> Made:
    """A model, a checkpoint with its optimizer, and a background."""
    (root / "model").mkdir(parents=True)
    save_constant_model(root / "model", -1.0).rename(root / "model" / "model.safetensors")
    yield "model", root / "model"
    (root / "checkpoint").mkdir()
    network, optimizer = trained()
    progress = checkpoint.Progress(1, 2, {"total": 0.5}, 0.25, 0, 12.0)
    path = root / "checkpoint" / "checkpoint.safetensors"
    checkpoint.save(path, network, network.state_dict(), optimizer, {}, progress, TRAINED)
    yield "checkpoint", root / "checkpoint"
    lung = Volume(np.where(ct().voxels < -500, -5.0, 5.0).astype(np.float32), GRID, "lung")
    background = Background("chest", ct(), lung, np.zeros((1, 3), np.int64), 12.0, 0.5, 45.0)
    background.write(root / "backgrounds")
    yield "backgrounds", root / "backgrounds"


TRAINED = json.dumps(asdict(TrainingConfig("test")))


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network of two layers after one step."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return network, optimizer


def _lists(root: Path) -> Made:
    """What an import starts from: a CSV of pairs, a clinical table, descriptions of data sets, exclusions."""
    decathlon = {
        "labels": {"0": "background", "1": "cancer"},
        "training": [{"image": f"./imagesTr/l_{n}.nii", "label": f"./labelsTr/l_{n}.nii"} for n in range(2)],
        "test": ["./imagesTs/l_5.nii", {"image": "./imagesTs/l_6.nii"}],
    }
    nnunet = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}, "file_ending": ".nii"}
    texts: dict[str, tuple[str, str]] = {
        "pairs": ("pairs.csv", "case,patient,image,mask,label,histology\na,P1,a.nii,b.nii,1,x\nb,P2,c.nii,d.nii,,\n"),
        "clinical": ("clinical.csv", "PatientID,age,Histology\nLUNG1-001,70,large cell\nLUNG1-002,NA,NA\n"),
        "exclusions": ("exclusions.csv", "patient,source,reason\nP1,a.dcm,no mask\nP2,b.dcm,two masks\n"),
        "decathlon": ("dataset.json", json.dumps(decathlon)),
        "nnunet": ("dataset.json", json.dumps(nnunet)),
    }
    for name, (file, text) in texts.items():
        (root / name).mkdir(parents=True)
        (root / name / file).write_text(text)
        yield name, root / name
