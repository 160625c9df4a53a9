"""What computes a network's answer: OpenVINO, torch and ONNX files say the same, and only torch needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from command_line import clmsda, refused
from numpy.typing import NDArray

from clmsda import images, models, networks, runtimes
from clmsda.geometry import Volume
from clmsda.measurements import measure
from clmsda.networks import NetworkConfig, NetworkError
from clmsda.networks.layout import layout
from clmsda.prompts import Point
from clmsda.runtimes import DeviceError, graph, runtime
from clmsda.segmentation import segment

SHAPE = (24, 24, 48)
CONFIGS = [
    NetworkConfig(2, 1, width=8, levels=3, block="none"),
    NetworkConfig(2, 2, width=8, levels=2, block="none", fold=2),
    NetworkConfig(2, 2, width=8, levels=3, block="ms"),
    NetworkConfig(2, 2, width=8, levels=3, block="msda", attention_tokens=0),
    NetworkConfig(2, 2, width=8, levels=4, block="msda", attention_tokens=64),
    NetworkConfig(3, 2, width=8, levels=3, block="msda", attention_tokens=30, block_levels=(1,), fold=2),
    NetworkConfig(3, 1, width=4, levels=2, block="msda", attention_tokens=100),
    NetworkConfig(3, 2, width=8, levels=3, block="msda", attention_tokens=7, fold=3),
]


def weights(config: NetworkConfig) -> dict[str, NDArray]:
    """Of no network that was trained, but none of them neutral: gamma is not 0, statistics are not 0 and 1."""
    torch.manual_seed(0)
    found = networks.weights_of(networks.build(config))
    rng = np.random.default_rng(0)
    for name, array in found.items():
        if name.endswith("running_var"):
            found[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        elif name.endswith(("running_mean", "bias")):
            found[name] = rng.normal(0, 0.2, array.shape).astype(np.float32)
        elif name.endswith("gamma"):
            found[name] = np.array(0.7, np.float32)
    return found


def patches(config: NetworkConfig, shape: tuple[int, ...], samples: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((samples, config.in_channels, *shape), np.float32)


def by_onnx_runtime(file: Path, asked: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, str]]:
    """What ONNX Runtime makes of patches, and the file's texts."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: asked})
    return found[:, 0], session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("config", CONFIGS)
def test_the_layout_is_that_of_the_network(config: NetworkConfig) -> None:
    state = networks.build(config).state_dict()
    assert layout(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("config", CONFIGS)
def test_openvino_says_what_torch_says(config: NetworkConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "ATTENTION_NUMBERS", 5000)  # queries are asked in parts
    given, shape = weights(config), SHAPE[: config.spatial_dims]
    one, other = (runtime(config, given, shape, name=name, device="cpu") for name in ("openvino", "torch"))
    for sides in (shape, tuple(2 * n for n in shape), tuple(n // 2 for n in shape)):
        if any(n % config.size_multiple for n in sides):
            continue
        asked = patches(config, sides)
        found = one(asked)
        assert found.shape == (2, *sides) and found.dtype == np.float32 and found.std() > 1e-4
        np.testing.assert_allclose(found, other(asked), atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_onnx_file_says_what_torch_says(config: NetworkConfig, tmp_path: Path) -> None:
    given, shape = weights(config), SHAPE[: config.spatial_dims]
    asked = patches(config, shape)
    expected = runtime(config, given, shape, name="torch", device="cpu")(asked)
    (tmp_path / "network.onnx").write_bytes(graph.onnx(config, given, shape))
    found, _ = by_onnx_runtime(tmp_path / "network.onnx", asked)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def phantom() -> tuple[Volume, Volume]:
    """The CT of `clmsda demo`, and the true mask."""
    from clmsda.cli.demo import SHIPPED

    ct = images.read_ct(SHIPPED / "ct.nii.gz")
    return ct, images.read_mask(SHIPPED / "truth.nii.gz", grid=ct.grid)


@pytest.mark.parametrize("name", [name for name in models.available() if name != models.DETECTOR])
def test_masks_of_both_runtimes_are_equal(name: str, phantom: tuple[Volume, Volume]) -> None:
    ct, truth = phantom
    click = Point(measure(truth).center_mm)
    one, other = (segment(ct, click, models.load(name, "cpu", runtime=kind)) for kind in ("openvino", "torch"))
    assert np.count_nonzero(one.mask.voxels != other.mask.voxels) <= 2  # where the mean of the views is a tie
    assert one.lesions[0].confidence == pytest.approx(other.lesions[0].confidence, abs=1e-3)


@pytest.mark.parametrize("name", models.available())
def test_probabilities_of_the_shipped_models_are_equal(name: str) -> None:
    one, other = (models.load(name, "cpu", runtime=kind) for kind in ("openvino", "torch"))
    for shape in (one.config.patches.shape, (32, 64, 40)):
        asked = patches(one.config.network, shape, samples=1)
        np.testing.assert_allclose(one.probabilities(asked), other.probabilities(asked), atol=1e-3)


def test_many_threads_may_ask() -> None:
    config = CONFIGS[-3]
    run = runtime(config, weights(config), SHAPE)
    asked = [patches(config, tuple(n * k for n in SHAPE), 1) * k / 2 for k in (1, 2) for _ in range(4)]
    alone = [run(one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(a, b) for a, b in zip(alone, pool.map(run, asked), strict=True))


def test_patches_that_do_not_fit_are_refused() -> None:
    run = runtime(CONFIGS[0], weights(CONFIGS[0]), (24, 24))
    with pytest.raises(NetworkError, match="multiples of 4"):
        run(np.zeros((1, 1, 24, 22), np.float32))
    with pytest.raises(NetworkError, match="1 channels"):
        run(np.zeros((1, 2, 24, 24), np.float32))


def test_a_runtime_that_is_none_is_refused() -> None:
    with pytest.raises(DeviceError, match="no runtime 'tensorrt': use one of auto, openvino, torch"):
        models.load(runtime="tensorrt")
    with pytest.raises(DeviceError, match="expected the device auto or cpu, found 'cuda'"):
        models.load(runtime="openvino", device="cuda")


def test_threads_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runtimes.cores() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert runtimes.cores() >= 1


def test_a_model_is_exported_with_its_configuration(tmp_path: Path) -> None:
    done = clmsda("export", "second", "--onnx", tmp_path / "second.onnx", "--shape", "16,24,32")
    assert done.returncode == 0, done.stderr
    assert "patches (N, 6, 16, 24, 32) to probabilities (N, 1, 16, 24, 32)" in done.stdout.replace("\n", " ")
    model = models.load("second", "cpu")
    asked = patches(model.config.network, (16, 24, 32), samples=3)
    found, texts = by_onnx_runtime(tmp_path / "second.onnx", asked)
    np.testing.assert_allclose(found, model.probabilities(asked), atol=1e-4)
    assert texts["version"] == model.version
    assert json.loads(texts["clmsda"])["patches"]["windows_hu"] == [[-1350.0, 150.0], [-160.0, 240.0]]
    assert "multiples of 8" in refused("export", "second", "--onnx", tmp_path / "x.onnx", "--shape", "20,24,24")
    assert "80,80,80" in refused("export", "second", "--onnx", tmp_path / "x.onnx", "--shape", "big")
    assert ".onnx" in refused("export", "second", "--onnx", tmp_path / "x.pb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second.onnx"]


GONE_FROM_ANOTHER_THREAD = """
import gc, os, signal, threading
import numpy as np
from clmsda.networks import NetworkConfig
from clmsda.networks.layout import layout
from clmsda.runtimes import runtime

signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
config = NetworkConfig(2, 1, width=4, levels=2, block="none")
networks = [runtime(config, {name: np.ones(shape, np.float32) for name, shape in layout(config).items()}, (16, 16))]
other = threading.Thread(target=lambda: (networks.clear(), gc.collect()))
other.start()
other.join()
os.kill(os.getpid(), signal.SIGCHLD)
"""


def test_a_network_may_go_from_another_thread_than_it_came_from() -> None:
    done = subprocess.run([sys.executable, "-c", GONE_FROM_ANOTHER_THREAD], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # what is None here cannot be imported
from clmsda.cli import main
try:
    main(sys.argv[1:])
finally:
    print("telemetry" if "openvino_telemetry" in sys.modules else "no telemetry")
"""


def without_torch(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_segmenting_needs_no_torch(tmp_path: Path) -> None:
    done = without_torch("demo", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("F1 ")[1].split(". ")[0]) > 0.85
    x, y, z = measure(images.read_mask(tmp_path / "demo" / "truth.nii.gz")).center_mm
    ct, mask = tmp_path / "demo" / "ct.nii.gz", tmp_path / "mask.nii.gz"
    done = without_torch("segment", ct, f"--point={x},{y},{z}", "-o", mask, "--model", "second")
    assert done.returncode == 0 and mask.is_file(), done.stderr
    assert "no telemetry" in done.stdout
    assert "not installed" not in without_torch("info", "model", "second").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "models/shipped.toml", "--out", "RUN"),
        ("phantom", "RUN"),
        ("demo", "RUN", "--seed", "3"),
        ("demo", "RUN", "--runtime", "torch"),
        ("demo", "RUN", "--device", "cuda"),
        ("study", "run", "studies/smoke.toml", "--out", "RUN"),
        ("info", "networks"),
    ],
)
def test_what_needs_torch_says_so_in_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    places = {"RUN": tmp_path / "run"} | {name: root / name for name in arguments if name.endswith(".toml")}
    done = without_torch(*(places.get(name, name) for name in arguments))
    assert done.returncode == 2, done.stderr
    assert done.stderr == "error: this needs torch, which is not installed: pip install 'clmsda[train]'\n"
