"""Model files: what was saved comes back, and nothing else is ever taken for a model."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clmsda import models, networks
from clmsda.files import OutputError
from clmsda.models import HEADER, ModelConfig, ModelError
from clmsda.networks import NetworkConfig
from clmsda.patches import PatchConfig
from clmsda.runtimes import DeviceError
from clmsda.runtimes.torch import select_device

CONFIG = ModelConfig(
    NetworkConfig(spatial_dims=2, in_channels=2, width=4, levels=2, block="ms", block_levels=(0,)),
    PatchConfig((8, 12), 0.977, 46.0, windows_hu=((-1350.0, 150.0),), mark_prompt=True),
    pairs=True,
    provenance={"data": "phantoms", "epoch": 3, "validation_f1": 0.5},
)


@pytest.fixture
def network() -> torch.nn.Module:
    """Small, with statistics of batch normalization that are not those of a fresh network."""
    torch.manual_seed(0)
    network = networks.build(CONFIG.network)
    network(torch.randn(4, 2, 8, 12) * 3 + 1)
    return network.eval()


@pytest.fixture
def saved(network: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    models.save(networks.weights_of(network), CONFIG, path)
    return path


def test_a_model_comes_back_whole(network: torch.nn.Module, saved: Path) -> None:
    model = models.read(saved)
    assert model.config == CONFIG
    assert model.name == "small" and model.version == f"small@{model.digest[:12]}" and len(model.digest) == 64
    assert all(np.array_equal(model.weights[name], tensor) for name, tensor in network.state_dict().items())
    assert sorted(path.name for path in saved.parent.iterdir()) == ["small.safetensors"]


def test_probabilities_are_those_of_the_network(network: torch.nn.Module, saved: Path) -> None:
    patches = np.random.default_rng(0).random((3, 2, 8, 12), np.float32)
    probabilities = models.load(str(saved), device="cpu").probabilities(patches)
    assert probabilities.shape == (3, 8, 12) and probabilities.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(probabilities, torch.sigmoid(network(torch.tensor(patches)))[:, 0], atol=1e-6)


def test_other_weights_have_another_version(network: torch.nn.Module, saved: Path) -> None:
    before = models.load(saved, device="cpu")
    models.save(networks.weights_of(network), replace(CONFIG, provenance={"epoch": 4}), saved)
    assert models.load(saved, device="cpu").version != before.version


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1000\n")


def pickled(path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, path)


def pickled_the_old_way(path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=False)


def of_others(path: Path) -> None:
    save_file({"weight": torch.ones(3)}, path, {"format": "pt"})


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Rewrite the configuration in the header of a model file, leaving its tensors."""

    def spoil(path: Path) -> None:
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        config = json.loads(header["__metadata__"][HEADER])
        changed = change(config)
        header["__metadata__"][HEADER] = changed if isinstance(changed, str) else json.dumps(config)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, ["not a whole safetensors file", "download it again"]),
        (cut_in_the_header, ["not a whole safetensors file"]),
        (empty, ["not a whole safetensors file"]),
        (text, ["not a whole safetensors file"]),
        (pickled, ["is a pickle", "use safetensors"]),
        (pickled_the_old_way, ["is a pickle", "never loaded"]),
        (of_others, [f"no {HEADER!r} header", "not a clmsda model"]),
        (with_header(lambda c: c["network"].update(width=8)), ["another architecture", "of another shape"]),
        (with_header(lambda c: c["network"].update(block="msda")), ["another architecture", "tensors missing"]),
        (with_header(lambda c: c["network"].update(block="none")), ["another architecture", "unknown"]),
        (with_header(lambda c: c["network"].update(blok="ms")), ["network.blok", "version of clmsda"]),
        (with_header(lambda c: c["network"].update(width=6)), ["network", "multiple of 4", "found 6"]),
        (with_header(lambda c: c["patches"].update(shape=[8])), ["patches", "shape"]),
        (with_header(lambda c: c["patches"].pop("mark_prompt")), ["1 channels", "2 channels"]),
        (with_header(lambda c: c.update(sharing=True)), ["sharing"]),
        (with_header(lambda c: c.pop("pairs")), ["pairs"]),
        (with_header(lambda c: "not json"), ["header is not understood"]),
    ],
)
def test_what_is_no_model_is_refused(saved: Path, spoil: Callable[[Path], None], words: list[str]) -> None:
    spoil(saved)
    with pytest.raises(ModelError) as refusal:
        models.load(saved, device="cpu")
    assert all(word in str(refusal.value) for word in [str(saved), *words]), refusal.value
    assert "\n" not in str(refusal.value)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    torch.save(Trap(), tmp_path / "trap.pt")
    with pytest.raises(ModelError, match="pickle"):
        models.load(tmp_path / "trap.pt", device="cpu")
    assert not witness.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)
    assert witness.exists()  # the trap works


def test_a_missing_model_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model 'nobody'") as refusal:
        models.load("nobody")
    assert all(name in str(refusal.value) for name in models.available())
    with pytest.raises(ModelError, match="neither a file"):
        models.load(tmp_path)


def test_a_model_can_be_used_under_its_name_if_shipped() -> None:
    for name in models.available():
        assert models.load(name, device="cpu").name == name


def test_the_default_is_one_of_them() -> None:
    assert models.DEFAULT in models.available()


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "", "CPU"])
def test_an_unknown_device_is_refused(saved: Path, device: str) -> None:
    with pytest.raises(DeviceError, match=r"use one of: auto, .*cpu"):
        models.load(saved, device=device)


def test_a_device_that_is_not_here_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="'cuda:1' is not available here"):
        models.load(device="cuda:1")
    assert select_device("auto").type == "cpu"


def test_a_failing_save_leaves_nothing(network: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        models.save(
            networks.weights_of(network), replace(CONFIG, provenance={"by": object()}), tmp_path / "half.safetensors"
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="does not exist"):
        models.save(networks.weights_of(network), CONFIG, tmp_path / "missing" / "model.safetensors")


def test_a_failing_save_keeps_the_old_model(network: torch.nn.Module, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        models.save(networks.weights_of(network), replace(CONFIG, provenance={"by": object()}), saved)
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1


def test_patches_and_network_must_fit() -> None:
    with pytest.raises(ModelError, match="2 dimensions and 1 channels do not fit a network for 2 dimensions and 2"):
        ModelConfig(CONFIG.network, PatchConfig((8, 12), 1.0, 46.0), pairs=False)


def test_the_configuration_is_plain_json() -> None:
    assert json.loads(json.dumps(asdict(CONFIG)))["patches"]["shape"] == [8, 12]


def test_a_calibration_gives_the_f1_to_expect(network: torch.nn.Module, tmp_path: Path) -> None:
    calibrated = replace(CONFIG, calibration=((0.2, 0.3), (0.6, 0.5), (0.8, 0.9)))
    models.save(networks.weights_of(network), calibrated, tmp_path / "model.safetensors")
    config = models.load(tmp_path / "model.safetensors", "cpu").config
    assert config.calibration == calibrated.calibration
    assert [config.confidence(a) for a in (0.0, 0.2, 0.4, 0.7, 0.8, 1.0)] == pytest.approx(
        [0.3, 0.3, 0.4, 0.7, 0.9, 0.9]
    )
    assert CONFIG.confidence(0.37) == 0.37  # never measured: the agreement itself
    assert np.isnan(calibrated.confidence(float("nan")))


@pytest.mark.parametrize("knots", [((0.5, 0.2), (0.4, 0.3)), ((0.4, 0.3), (0.4, 0.4)), ((0.4, 0.3), (0.5, 0.2))])
def test_a_calibration_that_falls_is_refused(knots: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ModelError, match="must ascend"):
        replace(CONFIG, calibration=knots)


def test_a_header_of_any_length_is_no_pickle(network: torch.nn.Module, tmp_path: Path) -> None:
    """The first bytes of a model are the length of its header, and may be those of a pickle."""
    path = tmp_path / "model.safetensors"
    seen = set()
    for extra in range(0, 600, 8):
        models.save(networks.weights_of(network), replace(CONFIG, provenance={"x": "x" * extra}), path)
        seen.add(path.read_bytes()[:1])
        assert models.load(path, "cpu").config.provenance["x"] == "x" * extra
    assert b"\x80" in seen
