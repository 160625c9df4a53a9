"""Training for real: it learns, it can be killed anywhere, and it resumes to the same weights, on two ranks too."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from clmsda import models, phantoms, tensor_files
from clmsda.cohorts import Cohort, add_case
from clmsda.geometry import Grid, Volume
from clmsda.networks import NetworkConfig
from clmsda.patches import NO_AUGMENTATION, AugmentationConfig, PatchConfig
from clmsda.training import TrainingConfig, train
from clmsda.training.averaging import Average
from clmsda.training.checkpoint import HEADER, CheckpointError
from clmsda.training.config import ConfigError, DataConfig, LossConfig, OptimizationConfig, ViewConfig
from clmsda.training.loop import _Run, pays_in_half
from clmsda.training.ranks import Ranks
from clmsda.training.samples import CohortSamples, Pair
from clmsda.training.sources import open_samples

SIZES_MM = (14.0, 20.0, 26.0, 34.0, 44.0, 60.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six spheres in noise, 5 mm slices: nothing to do with lungs, but quickly learned."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    grid = Grid.axial((16, 48, 48), (5.0, 2.0, 2.0), center_mm=(0, 0, 0))
    points = grid.to_lps(np.stack(np.indices(grid.shape), axis=-1))
    for number, size in enumerate(SIZES_MM):
        mask = np.linalg.norm(points - rng.uniform(-8, 8, 3), axis=-1) <= size / 2
        hu = np.where(mask, 30, -800) + rng.normal(0, 40, grid.shape)
        volumes = Volume(hu.astype(np.int16), grid), Volume(mask.astype(np.uint8), grid)
        add_case(folder, f"sphere-{number}", *volumes, image_path="", mask_path="")
    return folder


def config(cohort: Path, **changes: object) -> TrainingConfig:
    base = TrainingConfig(
        name="test",
        data=DataConfig(source=str(cohort), samples_per_slice=1, validation_fraction=0.34, workers=0),
        patches=PatchConfig(shape=(32, 32), reference_spacing_mm=4.0),
        network=NetworkConfig(width=4, levels=3),
        views=ViewConfig(augmentation=AugmentationConfig(shift=4)),
        optimization=OptimizationConfig(
            learning_rate=5e-3, epochs=2, batch_size=4, checkpoint_minutes=1e-4, precision="float32"
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def weights(out: Path) -> dict[str, torch.Tensor]:
    arrays = tensor_files.read(out / "checkpoint.safetensors").tensors
    return {name: torch.tensor(array) for name, array in arrays.items()}


def progress(out: Path) -> dict:
    """Where a run stands, as another process sees it while the run goes on."""
    if not (out / "checkpoint.safetensors").is_file():
        return {"epoch": 0, "step": 0}
    return json.loads(tensor_files.read(out / "checkpoint.safetensors").texts[HEADER])["progress"]


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_spheres_and_writes_a_usable_model(cohort: Path, tmp_path: Path) -> None:
    settings = config(
        cohort, optimization=OptimizationConfig(learning_rate=1e-2, epochs=12, batch_size=4, precision="float32")
    )
    path = train(settings, tmp_path / "run", device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(12))
    assert rows[-1]["total"] < 0.5 * rows[0]["total"]
    assert max(row["f1_invariant"] for row in rows) > 0.8
    model = models.load(path, device="cpu")
    assert model.config.pairs
    assert model.config.patches.mean_size_mm is not None
    assert json.loads((tmp_path / "run" / "config.json").read_text())["patches"]["mean_size_mm"] > 0


@pytest.mark.parametrize(("pairs", "average"), [(True, 0.0), (False, 0.0), (True, 0.8)])
def test_stopping_in_good_order_and_resuming_changes_nothing(
    cohort: Path, tmp_path: Path, pairs: bool, average: float
) -> None:
    settings = config(cohort, loss=LossConfig(pairs=pairs))
    settings = replace(settings, optimization=replace(settings.optimization, average=average))
    train(settings, tmp_path / "whole", device="cpu")
    calls = 0
    while not progress(tmp_path / "pieces").get("finished"):
        train(settings, tmp_path / "pieces", device="cpu", minutes=1e-6)
        calls += 1
    assert calls > 4
    assert_same_weights(tmp_path / "whole", tmp_path / "pieces")


def test_a_running_average_keeps_its_share_at_every_step_and_is_shown_only_for_a_while() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    weight = network.weight
    torch.nn.init.constant_(weight, 1.0)
    average = Average.start(network, 0.75, {}, 0.3)
    for value in (5.0, 8.0):  # 0.75 * 1 + 0.25 * 5 = 2; 0.75 * 2 + 0.25 * 8 = 3.5
        torch.nn.init.constant_(weight, value)
        average.follow(network)
    with average.shown(network):
        assert weight.item() == 3.5
    assert weight.item() == 8.0


def test_what_is_kept_lies_towards_the_anchor() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 1.0)
    for keep in (0.0, 0.5):
        average = Average.start(network, keep, {"weight": torch.tensor([[9.0]])}, 0.25)
        with average.shown(network):
            assert network.weight.item() == 3.0  # 1 + a quarter of 8
        assert network.weight.item() == 1.0


def test_a_run_is_held_to_another_model(cohort: Path, tmp_path: Path) -> None:
    settings = config(cohort)
    settings = replace(settings, optimization=replace(settings.optimization, epochs=1))
    alone = models.read(train(settings, tmp_path / "alone", device="cpu")).weights
    other = train(replace(settings, seed=5), tmp_path / "other", device="cpu")
    anchored = replace(settings.optimization, anchor=str(other), anchor_share=0.25)
    held = models.read(train(replace(settings, optimization=anchored), tmp_path / "held", device="cpu")).weights
    for name, weight in alone.items():
        if "running" not in name and "tracked" not in name:  # these are measured anew
            np.testing.assert_allclose(held[name], 0.75 * weight + 0.25 * models.read(other).weights[name], atol=1e-6)


def test_the_model_that_is_kept_is_the_average(cohort: Path, tmp_path: Path) -> None:
    settings = config(cohort)
    settings = replace(settings, optimization=replace(settings.optimization, average=0.9, epochs=1))
    weights = models.read(train(settings, tmp_path, device="cpu")).weights
    kept = tensor_files.read(tmp_path / "checkpoint.safetensors").tensors
    averages = [name for name in weights if f"average.{name}" in kept]
    assert len(averages) > 10
    for name in averages:
        assert np.array_equal(weights[name], kept[f"average.{name}"])
        assert not np.array_equal(weights[name], kept[f"network.{name}"])


def test_a_gradient_that_bfloat16_spoils_is_computed_again(cohort: Path, tmp_path: Path) -> None:
    """One real backward pass is spoiled from outside; the step after it must not be."""
    settings = config(cohort, optimization=OptimizationConfig(epochs=1, batch_size=4, precision="bfloat16"))
    training, _, settings = open_samples(settings)
    run = _Run.start(settings, tmp_path / "run", Ranks(0, 1, torch.device("cpu")))
    batch: Pair = default_collate([training.pair(0, i) for i in range(4)])
    weight = next(run.network.parameters())
    spoiled: list[bool] = []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        spoiled.append(True)
        return gradient * float("nan") if len(spoiled) == 1 else gradient

    weight.register_hook(spoil)
    run.step(batch)
    assert len(spoiled) == 2
    assert all(parameter.isfinite().all() for parameter in run.network.parameters())


@pytest.mark.parametrize(("amx", "avx512_bf16"), [(False, False), (True, False), (False, True)])
def test_bfloat16_is_chosen_by_itself_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert pays_in_half(torch.device("cpu")) == (amx or avx512_bf16)
    assert pays_in_half(torch.device("cuda")) and not pays_in_half(torch.device("mps"))


def test_no_training_sample_comes_from_a_validation_case(cohort: Path) -> None:
    training, validation, settings = open_samples(config(cohort))
    names = {case.case for case, _ in training.entries}  # type: ignore[attr-defined]
    held = {case.case for case, _ in validation.entries}  # type: ignore[attr-defined]
    assert names and held and not names & held
    sizes = [case.size_mm for case in training.cohort.cases]  # type: ignore[attr-defined]
    assert settings.patches.mean_size_mm == pytest.approx(np.mean(sizes), abs=1e-3)


def test_a_pair_shows_the_tumor_at_two_sizes(cohort: Path) -> None:
    views = ViewConfig(augmentation=NO_AUGMENTATION)
    training, _, settings = open_samples(config(cohort, views=views))
    for number in range(len(training)):
        pair = training.pair(0, number)
        assert float(pair.ratio) == pytest.approx(settings.patches.ratio(float(pair.size_mm)), rel=1e-4)
        grown = float(pair.invariant_mask.sum()) / float(pair.variant_mask.sum())
        assert grown == pytest.approx(float(pair.ratio) ** 2, rel=0.25)


@pytest.mark.parametrize("source", ["cohort", "phantoms"])
def test_recentered_views_keep_the_prompt_at_the_click(cohort: Path, source: str) -> None:
    """Views centered at the click have its mark in their middle; recentered ones have the tumor there."""
    patches = PatchConfig((16, 16, 16), 4.0, 46.0, mark_prompt=True)
    data = DataConfig(source="phantoms" if source == "phantoms" else str(cohort), samples_per_epoch=12, workers=0)
    moved = {}
    for recentered in (0.0, 1.0):
        views = ViewConfig(size_error=2.0, click_radius=1.0, recentered=recentered, augmentation=NO_AUGMENTATION)
        samples, *_ = open_samples(config(cohort, patches=patches, views=views, data=data))
        pairs = [samples.pair(0, number) for number in range(4 if source == "phantoms" else 12)]
        centers = np.array([[center_of(pair.invariant[1]), center_of(pair.invariant_mask[0])] for pair in pairs])
        moved[recentered] = np.linalg.norm(centers - 7.5, axis=-1).mean(axis=0)  # of the mark, of the tumor
    assert moved[0.0][0] < 0.01 < moved[1.0][0]
    assert moved[1.0][1] < moved[0.0][1]


def test_cavities_are_asked_of_training_alone(cohort: Path) -> None:
    patches = PatchConfig((8, 8, 8), 8.0, 46.0)
    for share in (0.0, 1.0):
        data = DataConfig(samples_per_epoch=12, validation_samples=12, cavity_share=share, workers=0)
        training, validation, _ = open_samples(config(cohort, patches=patches, data=data))
        hollow = [training.scene(seed).tumor.hollow == "cavity" for seed in range(12)]
        assert (sum(hollow) > 6) if share else not any(hollow)
        assert [validation.scene(seed).tumor.hollow for seed in range(12)] == [
            phantoms.sample(seed).tumor.hollow for seed in range(12)
        ]


def center_of(image: torch.Tensor) -> list[float]:
    """Index of the center of mass."""
    return [float(c) for c in torch.stack([(g * image).sum() for g in indices(image.shape)]) / image.sum()]


def indices(shape: torch.Size) -> list[torch.Tensor]:
    return list(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij"))


def test_samples_depend_on_seed_epoch_and_number_alone(cohort: Path) -> None:
    training, *_ = open_samples(config(cohort))
    first, again = training.pair(3, 2), training.pair(3, 2)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], again[:-1], strict=True))  # without a second look
    assert not torch.equal(first.variant, training.pair(4, 2).variant)


def test_a_step_shows_one_of_its_slices_anew_in_every_epoch(cohort: Path) -> None:
    opened = Cohort.open(cohort)
    patches = PatchConfig(shape=(32, 32), reference_spacing_mm=4.0, mean_size_mm=30.0)
    views = ViewConfig(augmentation=NO_AUGMENTATION)
    each, stepped = (CohortSamples(opened, patches, views, 1, 1, step) for step in (None, 15.0))
    for case in opened.cases:
        own = [list(slices) for one, slices in stepped.entries if one == case]
        first, last = case.tumor_slices
        assert [k for step in own for k in step] == list(range(first, last + 1))  # each slice in one step
        assert [len(step) for step in own[:-1]] == [3] * (len(own) - 1) and len(own[-1]) <= 3  # of 15 mm, in 5 mm
    number = next(n for n, (_, slices) in enumerate(stepped.entries) if len(slices) == 3)
    case, slices = stepped.entries[number]
    shown = [each.pair(0, each.entries.index((case, range(k, k + 1)))).variant for k in slices]
    drawn = [stepped.pair(epoch, number).variant for epoch in range(20)]
    found = [next(k for k, one in enumerate(shown) if torch.equal(one, pair)) for pair in drawn]
    assert set(found) == {0, 1, 2}
    assert torch.equal(stepped.pair(3, number).variant, drawn[3])


def test_a_checkpoint_of_another_configuration_is_refused(cohort: Path, tmp_path: Path) -> None:
    train(config(cohort), tmp_path, device="cpu", minutes=1e-6)
    with pytest.raises(CheckpointError, match=r"seed was 0, is 1.*--out"):
        train(config(cohort, seed=1), tmp_path, device="cpu")


def test_a_truncated_checkpoint_is_named(cohort: Path, tmp_path: Path) -> None:
    train(config(cohort), tmp_path, device="cpu", minutes=1e-6)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"not a whole checkpoint.*delete it"):
        train(config(cohort), tmp_path, device="cpu")


TOML = """
name = "test"
data = {{ source = "{cohort}", samples_per_slice = 1, validation_fraction = 0.34, workers = 0 }}
patches = {{ shape = [32, 32], reference_spacing_mm = 4.0 }}
network = {{ width = 4, levels = 3 }}
optimization = {{ learning_rate = 5e-3, epochs = 3, batch_size = 4, checkpoint_minutes = 1e-4 }}
"""


def launch(toml: Path, out: Path, ranks: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "clmsda", "train", str(toml), "--out", str(out), "--device", "cpu"]
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "clmsda"]
        command = [sys.executable, *torchrun, *command[3:]]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def family(pid: int) -> list[int]:
    """A process and all its descendants: torchrun's ranks live in sessions of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks to kill in /proc, which is Linux")
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_for_real_it_resumes_to_the_same_weights(cohort: Path, tmp_path: Path, ranks: int) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text(TOML.format(cohort=cohort))
    assert launch(toml, tmp_path / "whole", ranks).wait(240) == 0
    process = launch(toml, tmp_path / "killed", ranks)
    deadline = time.monotonic() + 120
    while progress(tmp_path / "killed")["step"] < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    for pid in family(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait(30)
    state = progress(tmp_path / "killed")
    assert not state.get("finished") and state["step"] + state["epoch"] > 0
    assert launch(toml, tmp_path / "killed", ranks).wait(240) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


APART = """
import os, sys
from pathlib import Path
from clmsda.errors import InputError
from clmsda.training import read_config, train
try:
    train(read_config(sys.argv[1]), Path(sys.argv[2]) / os.environ["RANK"], device="cpu", minutes=0)
except InputError as error:
    Path(sys.argv[2], "said-" + os.environ["RANK"]).write_text(str(error))
"""


def run_apart(tmp_path: Path, toml: Path) -> list[str]:
    """Two ranks that share no folder, stopped after one step; what each refused."""
    script = tmp_path / "apart.py"
    script.write_text(APART)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(toml), str(tmp_path)]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=200, check=True)
    return [path.read_text() for path in sorted(tmp_path.glob("said-*"))]


@pytest.mark.slow
def test_ranks_that_found_different_checkpoints_say_so(cohort: Path, tmp_path: Path) -> None:
    """They would wait for each other for ever."""
    toml = tmp_path / "run.toml"
    toml.write_text(TOML.format(cohort=cohort))
    assert run_apart(tmp_path, toml) == []
    said = run_apart(tmp_path, toml)
    assert len(said) == 2 and all("a folder that all share" in text for text in said)


def test_more_ranks_than_samples_in_a_batch_are_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size = 4 leaves some of 8 ranks"):
        _Run.start(config(cohort), tmp_path, Ranks(0, 8, torch.device("cpu")))


def test_an_uneven_batch_counts_every_sample_alike(cohort: Path, tmp_path: Path) -> None:
    """Three samples on two ranks: the mean of the ranks' weighted gradients is the gradient of a plain mean."""
    settings = config(cohort, network=NetworkConfig(width=4, levels=2, block="none"), loss=LossConfig(pairs=False))
    training, _, settings = open_samples(settings)
    run = _Run.start(settings, tmp_path, Ranks(0, 1, torch.device("cpu")))
    run.network.eval()  # batch norm would see the share that it is given

    def gradient(numbers: list[int], weight: float) -> torch.Tensor:
        batch: Pair = default_collate([training.pair(0, n) for n in numbers])
        run.backward(batch, weight, half=False)
        return torch.cat([p.grad.flatten() for p in run.network.parameters() if p.grad is not None])

    shares = [Ranks(rank, 2, torch.device("cpu")).share([0, 1, 2]) for rank in (0, 1)]
    ranks = [gradient(share, len(share) * 2 / 3) for share in shares]
    torch.testing.assert_close((ranks[0] + ranks[1]) / 2, gradient([0, 1, 2], 1.0))


def test_norms_are_measured_with_the_weights_as_they_are(cohort: Path, tmp_path: Path) -> None:
    """In evaluation the network must answer for training batches as it does in training, on average."""
    training, _, settings = open_samples(config(cohort))
    run = _Run.start(settings, tmp_path, Ranks(0, 1, torch.device("cpu")))
    norms = [module for module in run.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.fill_(100.0)  # as if the weights had moved far since
    run.measure_norms(training)
    seen: list[torch.Tensor] = []
    norms[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batches = [[training.pair(0, n) for n in numbers] for numbers in run.batches(training)[:8]]
    for batch in batches:
        run.network(run.views(default_collate(batch)))
    expected = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(norms[0].running_mean, expected, rtol=0.05, atol=0.02)
    assert all(norm.momentum == 0.1 for norm in norms)
