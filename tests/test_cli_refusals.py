"""Bad input on the command line: one line that says why, exit status 2, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from command_line import chest, refused, save_constant_model
from dicom_series import save, sheared, slices, write_series
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.uid import MRImageStorage

from clmsda.geometry import Volume
from clmsda.images import write_image


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Ten slices of the chest, with the ball in them."""
    return chest().crop((15, 0, 0), (25, 120, 140))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_constant_model(tmp_path_factory.mktemp("model"), 5.0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def segment(ct: Path, out: Path, model: Path, point: str = "60,-60,-40") -> str:
    """What is said about a CT that must be refused, whatever else is asked for."""
    outputs = ["-o", out / "m.nii.gz", "--json", out / "m.json", "--preview", out / "m.png"]
    message = refused("segment", ct, f"--point={point}", *outputs, "--model", model)
    assert not list(out.iterdir())
    return message.lower()


def test_a_missing_slice(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    write_series(tmp_path / "ct", volume)[4].unlink()
    assert "missing" in segment(tmp_path / "ct", out, model)


def test_a_slice_twice(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    datasets = slices(volume)
    first = datasets[0]
    again = slices(volume, study_uid=first.StudyInstanceUID, frame_uid=first.FrameOfReferenceUID)[4]
    again.SeriesInstanceUID = first.SeriesInstanceUID
    save([*datasets, again], tmp_path / "ct")
    assert "duplicated" in segment(tmp_path / "ct", out, model)


def test_two_series_are_listed(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    first, second = slices(volume), slices(volume)
    save(first, tmp_path / "ct" / "a")
    save(second, tmp_path / "ct" / "b")
    message = segment(tmp_path / "ct", out, model)
    assert "--series" in message
    assert first[0].SeriesInstanceUID in message
    assert second[0].SeriesInstanceUID in message


def test_a_truncated_file(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    path = write_series(tmp_path / "ct", volume)[4]
    path.write_bytes(path.read_bytes()[:-5000])
    assert path.name.lower() in segment(tmp_path / "ct", out, model)


def test_an_mr_series(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    save(slices(volume, modality="MR", sop_class=MRImageStorage), tmp_path / "mr")
    assert "mr" in segment(tmp_path / "mr", out, model)


def test_a_localizer(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    write_series(
        tmp_path / "ct", volume, edit=lambda one, _: setattr(one, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )
    assert "localizer" in segment(tmp_path / "ct", out, model)


def test_a_tilted_gantry(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    write_series(tmp_path / "ct", volume, edit=sheared(volume, 15))
    assert "tilt" in segment(tmp_path / "ct", out, model)


def test_an_archive_without_dicom(tmp_path: Path, out: Path, model: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        archive.writestr("readme.txt", "no images here")
    assert "dicom" in segment(tmp_path / "ct.zip", out, model)


@pytest.mark.parametrize(("shape", "said"), [((30, 40), "single slice"), ((3, 10, 30, 40), "4 dimensions")])
def test_nifti_of_other_dimensions(shape: tuple[int, ...], said: str, tmp_path: Path, out: Path, model: Path) -> None:
    image = sitk.GetImageFromArray(np.full(shape, -500, np.int16), isVector=False)
    sitk.WriteImage(image, tmp_path / "ct.nii.gz")
    assert said in segment(tmp_path / "ct.nii.gz", out, model)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize("fault", ["one value", "NaN", "0..255"])
def test_voxels_that_are_no_ct(fault: str, suffix: str, volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    voxels = volume.voxels.astype(np.float32)
    if fault == "one value":
        voxels[:] = -1000
    elif fault == "NaN":
        voxels[3] = np.nan
    else:
        voxels = np.interp(voxels, (-1350, 150), (0, 255)).round().astype(np.float32)
    ct = tmp_path / f"ct{suffix}"
    write_image(Volume(voxels, volume.grid), ct)
    segment(ct, out, model)


def test_models_that_are_none(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    ct = tmp_path / "ct.nii.gz"
    write_image(volume, ct)
    truncated, other, pickled = tmp_path / "truncated.safetensors", tmp_path / "other.safetensors", tmp_path / "a.pt"
    truncated.write_bytes(model.read_bytes()[:-1000])
    # The header of another width before the same tensors.
    header = int.from_bytes(model.read_bytes()[:8], "little")
    content = model.read_bytes()
    changed = content[8 : 8 + header].replace(rb"\"width\": 4", rb"\"width\": 8")
    assert changed != content[8 : 8 + header]
    other.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + header :])
    torch.save({"a": torch.zeros(1)}, pickled)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert "truncated" in segment(ct, out, truncated)
    assert "architecture" in segment(ct, out, other)
    assert "pickle" in segment(ct, out, pickled)
    assert "pickle" in segment(ct, out, tmp_path / "b.pkl")


def test_a_device_that_is_not_there(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    write_image(volume, tmp_path / "ct.nii.gz")
    arguments = ["--point=60,-60,-40", "-o", out / "m.nii.gz", "--model", model, "--device", "tpu"]
    assert "device 'tpu'" in refused("segment", tmp_path / "ct.nii.gz", *arguments)


def test_a_folder_where_a_file_was_meant(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    write_image(volume, tmp_path / "ct.nii.gz")
    (out / "m.nii.gz").mkdir()
    arguments = ["--point=60,-60,-40", "-o", out / "m.nii.gz", "--json", out / "m.json", "--model", model]
    assert "folder" in refused("segment", tmp_path / "ct.nii.gz", *arguments)
    assert [path.name for path in out.iterdir()] == ["m.nii.gz"]


def test_the_ct_itself_as_the_output(volume: Volume, tmp_path: Path, model: Path) -> None:
    ct = tmp_path / "ct.nii.gz"
    write_image(volume, ct)
    before = ct.read_bytes()
    message = refused("segment", ct, "--point=60,-60,-40", "-o", ct, "--model", model)
    assert "it is the CT itself" in message
    assert ct.read_bytes() == before


@pytest.mark.parametrize(
    ("attribute", "text"),
    [("ImagePositionPatient", r"0.0\abc\6.0"), ("PixelSpacing", r"1,0\1,0"), ("RescaleIntercept", "-10,4")],
)
def test_numbers_that_are_none(
    volume: Volume, tmp_path: Path, out: Path, model: Path, attribute: str, text: str
) -> None:
    for path in write_series(tmp_path / "ct", volume):
        dataset = dcmread(path)
        element = dataset[attribute]
        spoiled = RawDataElement(element.tag, "DS", len(text), text.encode(), 0, False, True)
        dataset._dict[element.tag] = spoiled
        dataset.save_as(path)
    assert attribute.lower() in segment(tmp_path / "ct", out, model)


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_a_terminated_run_leaves_nothing_behind(volume: Volume, tmp_path: Path, out: Path, model: Path) -> None:
    ct = tmp_path / "ct.nii.gz"
    write_image(volume, ct)
    command = ["segment", ct, *["--point=60,-60,-40"] * 200, "-o", out / "m.nii.gz", "--model", model]
    process = subprocess.Popen([sys.executable, "-m", "clmsda", *map(str, command)])
    deadline = time.monotonic() + 60
    while not list(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(out.iterdir())  # the unfinished mask
    process.terminate()
    assert process.wait(60) == 143
    assert not list(out.iterdir())
