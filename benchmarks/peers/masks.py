"""From a CT in memory to a mask: one click of clmsda beside peers that look at the window around the same click.

The peers' networks are untrained (nobody's weights can be had here), and are what their makers configure for such a
CT. So this compares time, and says nothing of masks.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda import models, networks
from clmsda.geometry import Volume
from clmsda.prompts import Point
from clmsda.segmentation import segment
from clmsda.studies.config import Peer
from clmsda.studies.peers import grow
from peers.rounds import Contestant

OVERLAP = 0.25
"""MONAI's default."""
TILE = 96


def contestants(ct: Volume, point: Point, scratch: Path) -> list[Contestant]:
    """scratch: an empty folder that nnU-Net may plan in; its environment variables name it."""
    plans, dataset = planned(ct, scratch)
    shape = plans["configurations"]["3d_fullres"]["patch_size"]
    window = window_at(ct, point, shape)
    clicked = round(float(ct.grid.to_index(point.lps_mm)[0]))
    return [
        *clmsda(ct, point),
        nn_u_net("3d_fullres", window.voxels, ct, plans, dataset),
        nn_u_net("2d", ct.voxels[clicked : clicked + 1], ct, plans, dataset),
        *monai(window.voxels, ct),
        Contestant(
            "SimpleITK, region growing", lambda: grow(window, np.array(point.lps_mm), Peer.multiplier),
            voxels=window.voxels.size,
        ),
    ]  # fmt: skip


def window_at(ct: Volume, point: Point, shape: list[int]) -> Volume:
    """As many voxels of the CT as one patch of nnU-Net has, the click as near to their middle as the CT allows."""
    room = np.array(ct.grid.shape)
    size = np.minimum(shape, room)
    low = np.clip(np.rint(ct.grid.to_index(point.lps_mm)).astype(int) - size // 2, 0, room - size)
    return ct.crop(tuple(low), tuple(low + size))


def clmsda(ct: Volume, point: Point) -> list[Contestant]:
    """The click in both runtimes, and the network's part alone."""
    model = models.load(runtime="openvino", threads=1)
    in_torch = models.load(runtime="torch", device="cpu", threads=1)
    asked: list[NDArray[np.float32]] = []

    def note(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(patches.copy())
        return model.probabilities(patches)

    segment(ct, point, replace(model, probabilities=note))
    network = networks.build(model.config.network)
    gflop = sum(networks.flops(network, patches.shape) for patches in asked) / 1e9
    seen = sum(len(patches) * patches[0, 0].size for patches in asked)
    more = {"patches": sum(map(len, asked))}
    return [
        Contestant("clmsda, one click", lambda: segment(ct, point, model), gflop, seen, more),
        Contestant("clmsda, one click, in torch", lambda: segment(ct, point, in_torch), gflop, seen, more),
        Contestant("clmsda, its network alone", lambda: [model.probabilities(one) for one in asked], gflop, seen, more),
    ]


def planned(ct: Volume, scratch: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnU-Net's own planner configures for CTs like this one, and the dataset that it was told of.

    Of the data it asks for sizes, spacings and intensities alone, so the files that it lists are empty.
    """
    raw, preprocessed = scratch / "raw" / "Dataset001_CT", scratch / "preprocessed" / "Dataset001_CT"
    folders = {"nnUNet_raw": raw.parent, "nnUNet_preprocessed": preprocessed.parent, "nnUNet_results": scratch}
    os.environ.update({name: str(folder) for name, folder in folders.items()})
    for path in (raw / "imagesTr" / "a_0000.nii.gz", raw / "labelsTr" / "a.nii.gz", preprocessed / "splits"):
        path.parent.mkdir(parents=True)
        path.touch()
    dataset = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}, "numTraining": 100,
        "file_ending": ".nii.gz", "overwrite_image_reader_writer": "SimpleITKIO",
    }  # fmt: skip
    intensities = {"mean": -160.0, "std": 320.0, "percentile_00_5": -1000.0, "percentile_99_5": 200.0}
    fingerprint = {
        "spacings": [ct.grid.spacing_mm.tolist()], "shapes_after_crop": [list(ct.grid.shape)],
        "median_relative_size_after_cropping": 1.0, "foreground_intensity_properties_per_channel": {"0": intensities},
    }  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    return ExperimentPlanner("Dataset001_CT").plan_experiment(), dataset


def nn_u_net(
    configuration: str, voxels: NDArray, ct: Volume, plans: dict[str, Any], dataset: dict[str, Any]
) -> Contestant:
    """nnU-Net's predictor, without the mirroring that it does by default: the same again, 4 or 8 times in all."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configured = manager.get_configuration(configuration)
    network = get_network_from_plans(
        configured.network_arch_class_name, configured.network_arch_init_kwargs,
        configured.network_arch_init_kwargs_req_import, 1, 2, deep_supervision=False,
    ).eval()  # fmt: skip
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    axes = tuple(range(len(configured.patch_size)))
    predictor.manual_initialization(
        network, manager, configured, [network.state_dict()], dataset, "nnUNetTrainer", axes
    )
    patch = tuple(configured.patch_size)

    def tiles(shape: tuple[int, ...]) -> int:
        size = tuple(np.maximum(shape[-len(patch) :], patch))
        steps = compute_steps_for_sliding_window(size, patch, predictor.tile_step_size)
        return int(np.prod([len(along) for along in steps])) * (shape[0] if len(patch) == 2 else 1)

    return Contestant(
        f"nnU-Net, predictor, {configuration}" + " (clicked slice)" * (configuration == "2d"),
        lambda: predictor.predict_single_npy_array(
            voxels[None].astype(np.float32), {"spacing": ct.grid.spacing_mm.tolist()}
        ),
        networks.flops(network, (1, 1, *patch)) / 1e9 * tiles(voxels.shape),
        voxels.size,
        {"tiles": tiles(voxels.shape), "whole": tiles(ct.grid.shape), "mirrored": 2 ** len(patch), "patch": patch},
        heavy=True,
    )  # fmt: skip


def monai(voxels: NDArray, ct: Volume) -> list[Contestant]:
    """MONAI's sliding window with two of its networks, as they are by default."""
    from monai.data.utils import dense_patch_slices
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import BasicUNet, SegResNet
    from monai.transforms import ScaleIntensityRange

    roi = (len(voxels), TILE, TILE)
    inferer = SlidingWindowInferer(roi, sw_batch_size=1, overlap=OVERLAP)
    scale = ScaleIntensityRange(-1350, 150, 0, 1, clip=True)
    step = tuple(int(side * (1 - OVERLAP)) for side in roi)

    def tiles(shape: tuple[int, ...]) -> int:
        return len(dense_patch_slices(np.maximum(shape, roi).tolist(), roi, step))

    def contestant(network: torch.nn.Module) -> Contestant:
        @torch.inference_mode()
        def run() -> NDArray:
            image = torch.as_tensor(np.asarray(scale(voxels.astype(np.float32))))[None, None]
            return inferer(image, network).argmax(1)[0].numpy()

        count = tiles(voxels.shape)
        return Contestant(
            f"MONAI, sliding window, {type(network).__name__}", run,
            networks.flops(network.eval(), (1, 1, *roi)) / 1e9 * count, voxels.size,
            {"tiles": count, "whole": tiles(ct.grid.shape), "mirrored": 1, "patch": roi}, heavy=True,
        )  # fmt: skip

    return [contestant(kind(spatial_dims=3, in_channels=1, out_channels=2)) for kind in (BasicUNet, SegResNet)]
