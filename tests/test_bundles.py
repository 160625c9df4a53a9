"""A MONAI bundle: what it says of itself, and in a real MONAI (`make monai`) that its inference is the network's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from command_line import clmsda, refused, save_constant_model

from clmsda import images, models, networks
from clmsda.bundles import BundleError, read_patch
from clmsda.cli.demo import SHIPPED
from clmsda.geometry import LPS_FROM_RAS, Grid
from clmsda.measurements import measure
from clmsda.models import ModelConfig
from clmsda.networks import NetworkConfig
from clmsda.patches import PatchConfig, cut, directions_of, view_grid
from clmsda.prompts import PromptError

REPOSITORY = Path(__file__).parent.parent
MONAI = Path(os.environ.get("MONAI_PYTHON", REPOSITORY / ".cache" / "monai" / "bin" / "python"))
REQUIRED = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format",
)  # fmt: skip
"""What MONAI's schema of 2024-07-25 requires."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "second"
    done = clmsda("export", "second", "--monai-bundle", folder)
    assert done.returncode == 0, done.stderr
    assert "it finds no tumors" in done.stdout
    return folder


@pytest.fixture(scope="module")
def click() -> tuple[float, float, float]:
    return measure(images.read_mask(SHIPPED / "truth.nii.gz")).center_mm


def monai(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of MONAI's commands about a bundle, run in its folder."""
    if not MONAI.is_file():
        pytest.skip("no MONAI here: `make monai` installs it")
    command = [str(MONAI), "-m", "monai.bundle", *arguments, "--meta_file", "configs/metadata.json"]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=200)


def expected(model: models.Model, ct: Path, point: tuple[float, ...]) -> tuple[np.ndarray, Grid]:
    """The probabilities of the network as clmsda runs it, and their grid."""
    volume, patches = images.read_ct(ct), model.config.patches
    grid = view_grid(patches, point, directions=directions_of(volume.grid))
    return model.probabilities(cut(volume, grid, patches)[None])[0], grid


def inferred(bundle: Path, ct: Path, point: tuple[float, ...], out: Path) -> nibabel.Nifti1Image:
    """What MONAI's own inference run writes."""
    given = ["--image", str(ct), "--point_mm", str([round(float(x), 3) for x in point]), "--output_dir", str(out)]
    done = monai(bundle, "run", "--config_file", "configs/inference.json", *given)
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = out.iterdir()
    return nibabel.load(written)


def test_a_bundle_has_what_the_specification_asks_for(bundle: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert names == {"configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md"}
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert all(said.get(name) for name in REQUIRED)
    given = said["network_data_format"]["inputs"]["image"]
    assert given["num_channels"] == len(given["channel_def"]) == models.read("second").config.network.in_channels


def test_the_metadata_say_what_a_bundle_is_not(bundle: Path) -> None:
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert "not of this bundle" in said["description"] and "Research only" in said["intended_use"]
    assert "Apache-2.0" in said["copyright"] and models.read("second").version in said["description"]
    kinds = list(said["network_data_format"]["inputs"]["image"]["channel_def"].values())
    assert [kind.startswith("prompt") for kind in kinds] == [False, False, True, True, True, False]
    page = (bundle / "docs" / "README.md").read_text()
    assert "| license | Apache-2.0" in page  # the model's card


def test_its_weights_are_the_models(bundle: Path) -> None:
    found = torch.load(bundle / "models" / "model.pt", weights_only=True)
    weights = models.read("second").weights
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name].numpy(), array) for name, array in weights.items())


def test_weights_of_ones_own_have_no_license_that_we_know(tmp_path: Path) -> None:
    done = clmsda("export", save_constant_model(tmp_path, 1.0), "--monai-bundle", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "own" / "configs" / "metadata.json").read_text())
    assert said["copyright"] == "code: Apache-2.0; weights: not said, ask who trained them"


def test_what_cannot_be_a_bundle_is_refused(tmp_path: Path) -> None:
    flat = NetworkConfig(spatial_dims=2, width=4, levels=2, block="none")
    config = ModelConfig(flat, PatchConfig(shape=(16, 16), reference_spacing_mm=1.0, mean_size_mm=20.0), pairs=False)
    models.save(networks.weights_of(networks.build(flat)), config, tmp_path / "flat.safetensors")
    assert "use --onnx" in refused("export", tmp_path / "flat.safetensors", "--monai-bundle", tmp_path / "flat")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert "something already" in refused("export", "second", "--monai-bundle", tmp_path / "full")
    assert "--onnx FILE or --monai-bundle FOLDER" in refused("export", "second")
    assert "--shape is of an ONNX file" in refused("export", "second", "--monai-bundle", tmp_path / "x", "--shape", "8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat.safetensors", "full"]


def test_a_case_needs_a_point_in_the_ct() -> None:
    config = models.read("second").config.patches
    with pytest.raises(BundleError, match=r"expected --point_mm .* found None"):
        read_patch({"image": SHIPPED / "ct.nii.gz", "point_mm": None}, config)
    with pytest.raises(PromptError, match="within the image"):
        read_patch({"image": SHIPPED / "ct.nii.gz", "point_mm": [9999, 0, 0]}, config)


def test_a_case_may_say_how_large_the_tumor_is(click: tuple[float, float, float]) -> None:
    config = models.read("second").config.patches
    case = {"image": SHIPPED / "ct.nii.gz", "point_mm": list(click)}
    mean, small = (read_patch({**case, "size_mm": size}, config) for size in (None, 23.0))
    assert mean["image"].shape == small["image"].shape == (6, *config.shape)
    spacing = [np.linalg.norm(one["affine"][:3, 0]) for one in (mean, small)]
    assert spacing == pytest.approx([2.3, 1.15])  # 2.3 mm at the mean of 46 mm


def test_monai_accepts_the_metadata(bundle: Path, tmp_path: Path) -> None:
    """Against MONAI's published schema: MONAI_SCHEMA names a copy; else MONAI fetches it."""
    schema = Path(os.environ.get("MONAI_SCHEMA", tmp_path / "schema.json"))
    done = monai(bundle, "verify_metadata", "--filepath", str(schema))
    if done.returncode and not schema.is_file():
        pytest.skip("MONAI cannot fetch its schema here: give a copy as MONAI_SCHEMA")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "metadata is verified with no error" in done.stderr + done.stdout


def test_monai_accepts_the_network(bundle: Path) -> None:
    wanted = ["--net_id", "network", "--device", "cpu", "--config_file", "configs/inference.json"]
    done = monai(bundle, "verify_net_in_out", *wanted)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "data shape of network is verified with no error" in done.stderr + done.stdout


def test_monais_inference_says_what_the_network_says(bundle: Path, click: tuple[float, ...], tmp_path: Path) -> None:
    point = tuple(round(x, 3) for x in click)
    found = inferred(bundle, SHIPPED / "ct.nii.gz", point, tmp_path / "out")
    probabilities, grid = expected(models.load("second", "cpu"), SHIPPED / "ct.nii.gz", point)
    assert probabilities.max() > 0.9  # it sees the tumor
    np.testing.assert_allclose(found.get_fdata().T, probabilities, atol=1e-3)
    np.testing.assert_allclose(found.affine, (LPS_FROM_RAS @ grid.affine)[:, [2, 1, 0, 3]], atol=1e-4)
