"""Real tumors among phantoms: shares, patients, what is unknown, and a run with a second look that resumes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clmsda import models
from clmsda.cohorts import Cohort, CohortError, add_case, of_patients
from clmsda.geometry import Grid, Volume
from clmsda.networks import NetworkConfig
from clmsda.patches import AugmentationConfig, PatchConfig
from clmsda.training import ConfigError, TrainingConfig, train
from clmsda.training.config import (
    AgainConfig,
    CohortShare,
    DataConfig,
    OptimizationConfig,
    PromptingConfig,
    ViewConfig,
)
from clmsda.training.ending import ended
from clmsda.training.sources import Mixed, open_samples
from clmsda.training.starting import weights_for

PATIENTS = "patient,collection,part\nA,LIDC-IDRI,train\nB,LIDC-IDRI,train\nC,LIDC-IDRI,validation\nD,LIDC-IDRI,test\n"


@pytest.fixture
def cohort(tmp_path: Path) -> CohortShare:
    """One ball in a small crop for each of four patients."""
    rng = np.random.default_rng(0)
    grid = Grid.axial((14, 24, 24), (2.0, 2.0, 2.0), center_mm=(0, 0, 0))
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    for name in "ABCD":
        mask = np.linalg.norm(points - rng.uniform(-4, 4, 3), axis=-1) <= 8
        hu = np.where(mask, 30, -800) + rng.normal(0, 40, grid.shape)
        ct = Volume(hu.astype(np.int16), grid)
        add_case(tmp_path / "cohort", f"{name}-1", ct, Volume(mask.astype(np.uint8), grid), image_path="", mask_path="",
                 patient=name)  # fmt: skip
    (tmp_path / "patients.csv").write_text(PATIENTS)
    return CohortShare(str(tmp_path / "cohort"), 0.5, str(tmp_path / "patients.csv"))


def config(cohort: CohortShare) -> TrainingConfig:
    return TrainingConfig(
        name="mixed",
        data=DataConfig(samples_per_epoch=4, validation_samples=2, cohorts=(cohort,), workers=0),
        patches=PatchConfig((16, 16, 16), 6.0, 46.0, mark_prompt=True, corrections=True),
        views=ViewConfig(
            size_error=2.0,
            click_radius=0.7,
            prompting=PromptingConfig(lines=0.3, boxes=0.3, edge=0.5),
            again=AgainConfig(),
            augmentation=AugmentationConfig(20.0, 0.2, 0.0, mirrored=True, noise_hu=20.0),
        ),
        network=NetworkConfig(3, 5, width=4, levels=2, block_levels=(0,), attention_tokens=64),
        optimization=OptimizationConfig(epochs=1, batch_size=2, checkpoint_minutes=1e-4, precision="float32"),
    )


def test_each_cohort_has_its_share_and_nobody_else_is_read(cohort: CohortShare) -> None:
    training, validation, _ = open_samples(config(cohort))
    assert isinstance(training, Mixed) and isinstance(validation, Mixed)
    assert training.counts == [2] and validation.counts == [1] and len(training) == 4
    assert {case.patient for case in training.cohorts[0].cohort.cases} == {"A", "B"}
    assert {case.patient for case in validation.cohorts[0].cohort.cases} == {"C"}


def test_an_epoch_goes_on_where_the_one_before_ended() -> None:
    """Five cases, three of them an epoch: after five epochs each was seen three times, in another order each pass."""
    mixed = Mixed([None] * 10, [], [], seed=3)  # type: ignore[arg-type]
    visits = [mixed._visit(5, 3, epoch, place) for epoch in range(5) for place in range(3)]
    assert Counter(index for _, index in visits) == dict.fromkeys(range(5), 3)
    assert [turn for turn, _ in visits] == [0] * 5 + [1] * 5 + [2] * 5
    assert len({tuple(index for _, index in visits[k : k + 5]) for k in (0, 5, 10)}) > 1


def test_what_lies_beyond_a_crop_is_unknown(cohort: CohortShare) -> None:
    """The crop is 48 mm wide; a view that assumes a larger tumor reaches beyond it."""
    training, *_ = open_samples(config(cohort))
    pair = training.pair(0, 0)
    for share, known in ((pair.variant_mask, pair.variant_known), (pair.invariant_mask, pair.invariant_known)):
        assert known.dtype == torch.bool and known.shape == share.shape
        assert not share[~known].any() and share.max() > 0.5
    assert not pair.variant_known.all()
    assert training.pair(0, 3).variant_known.all()  # a phantom is known everywhere


def test_a_scan_may_end_anywhere_for_phantoms_too(cohort: CohortShare) -> None:
    """With `cropped`, what lies beyond one and the same place in the patient is unknown in every view."""
    whole = config(cohort)
    training, *_ = open_samples(replace(whole, views=replace(whole.views, cropped=1.0)))
    pairs = [training.pair(epoch, 3) for epoch in range(8)]  # number 3 is a phantom's
    assert sum(not pair.variant_known.all() for pair in pairs) >= 6
    for pair in pairs:
        for known in (pair.variant_known[0], pair.invariant_known[0]):
            where = torch.argwhere(known)
            low, high = where.min(dim=0).values, where.max(dim=0).values + 1
            assert (high - low).prod() == len(where)  # a box
            assert known[8, 8, 8]  # with the middle of the view in it


def test_a_scan_that_ends_goes_on_as_its_border() -> None:
    grid = Grid.axial((5, 5, 5), (2.0, 2.0, 2.0), center_mm=(0, 0, 0))
    hu = np.arange(125).reshape(5, 5, 5)
    shown, within = ended(hu, grid, np.zeros(3), np.array([[2.5, np.inf, 0.1], [np.inf, 4.1, 3.9]]))
    assert within[1:, :, 2:4].all() and within.sum() == 4 * 5 * 2
    assert (shown[within] == hu[within]).all()
    assert (shown[0] == shown[1]).all() and (shown[:, :, 4] == shown[:, :, 3]).all()
    assert (shown[:, :, 0] == shown[:, :, 2]).all()


def test_samples_depend_on_seed_epoch_and_number_alone(cohort: CohortShare) -> None:
    training, *_ = open_samples(config(cohort))
    for number in (0, 3):
        a, b, other = training.pair(1, number), training.pair(1, number), training.pair(2, number)
        assert all(torch.equal(x, y) for x, y in zip(a[:-1], b[:-1], strict=True))
        assert all(torch.equal(x, y) for x, y in zip(a.again, b.again, strict=True))
        assert not torch.equal(a.variant, other.variant)


def test_a_run_with_a_second_look_resumes_to_the_same_weights(cohort: CohortShare, tmp_path: Path) -> None:
    train(config(cohort), tmp_path / "whole", device="cpu")
    for _ in range(9):
        train(config(cohort), tmp_path / "pieces", device="cpu", minutes=1e-6)
    one, other = (models.read(tmp_path / name / "model.safetensors") for name in ("whole", "pieces"))
    for name, tensor in one.weights.items():
        assert np.array_equal(tensor, other.weights[name]), name
    assert one.config.provenance["cohorts"] == {"cohort": 0.5}


def test_a_run_may_begin_with_a_model_of_fewer_channels(cohort: CohortShare, tmp_path: Path) -> None:
    """What it did not see before changes nothing at first: both networks answer alike."""
    base = config(cohort)
    few = replace(base.network, in_channels=2)
    patches = replace(base.patches, corrections=False)
    from clmsda import networks

    torch.manual_seed(0)
    network = networks.build(few)
    models.save(
        networks.weights_of(network), models.ModelConfig(few, patches, pairs=True), tmp_path / "few.safetensors"
    )
    more = networks.build(base.network)
    begun = replace(base, optimization=replace(base.optimization, start=str(tmp_path / "few.safetensors")))
    more.load_state_dict(weights_for(more, begun, "start"))
    image = torch.randn(1, 5, 8, 8, 8)
    torch.testing.assert_close(more.eval()(image), network.eval()(image[:, :2]))
    with pytest.raises(ConfigError, match=r"optimization\.start"):
        weights_for(more, replace(begun, network=replace(base.network, width=8)), "start")


def test_a_network_without_blocks_may_begin_with_the_convolutions_of_one_with_some(
    cohort: CohortShare, tmp_path: Path
) -> None:
    """Blocks and channels that it has not are left out, all else is taken as it is."""
    base = config(cohort)
    from clmsda import networks

    torch.manual_seed(0)
    given = networks.weights_of(networks.build(base.network))
    start = tmp_path / "with.safetensors"
    models.save(given, models.ModelConfig(base.network, base.patches, pairs=True), start)
    plain = replace(base.network, in_channels=2, block="none", block_levels=None)
    begun = replace(base, network=plain, optimization=replace(base.optimization, start=str(start), anchor=str(start)))
    network = networks.build(plain)
    found = weights_for(network, begun, "start")
    assert found.keys() == network.state_dict().keys() and found.keys() < given.keys()
    for name, tensor in found.items():
        expected = torch.tensor(given[name])
        torch.testing.assert_close(tensor, expected[:, :2] if tensor.shape != expected.shape else expected)
    with pytest.raises(ConfigError, match=r"optimization\.anchor"):
        weights_for(network, begun, "anchor")


def test_tables_of_patients_that_cannot_be_used(cohort: CohortShare, tmp_path: Path) -> None:
    opened = Cohort.open(cohort.folder)
    assert {case.patient for case in of_patients(opened, cohort.patients, "test").cases} == {"D"}
    for text, words in (
        ("patient,collection,part\nA,LIDC-IDRI,train\nA,LIDC-IDRI,test\n", "found A twice"),
        ("patient\nA\n", "found no collection, part"),
        ("patient,collection,part\nA,NSCLC-Radiomics,train\n", "may only be evaluated on"),
        ("patient,collection,part\nX,LIDC-IDRI,train\n", "no patient of the part 'train'"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(CohortError, match=words):
            of_patients(opened, tmp_path / "bad.csv", "train")
    with pytest.raises(CohortError, match="cannot read"):
        of_patients(opened, tmp_path / "none.csv", "train")


def test_a_folder_for_temporary_files_that_no_socket_fits_below_is_refused(
    cohort: CohortShare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the processes that prepare samples would wait for ever."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 80)))
    base = config(cohort)
    with pytest.raises(ConfigError, match="set TMPDIR to a shorter one"):
        train(replace(base, data=replace(base.data, workers=1)), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
