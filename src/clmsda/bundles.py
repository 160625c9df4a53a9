"""A model as a MONAI bundle: one look of the network at a tumor, by MONAI's own inference.

A bundle is a folder (https://docs.monai.io/en/stable/mb_specification.html): metadata, the configuration of an
inference, the network's weights, a page for people. Its configuration names `clmsda`, which builds the network and cuts
the patch, so both do what they do here. What `segment` does around the network (finding the size, looking twice,
joining views, measuring, calibrating) is not in a bundle, and its metadata say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from clmsda import shipped
from clmsda.errors import InputError
from clmsda.files import OutputError, make_folder, temporary_folder
from clmsda.images import read_ct
from clmsda.models import Trained
from clmsda.patches import PatchConfig, cut, directions_of, view_grid
from clmsda.prompts import Point, check_in_image
from clmsda.version import software, software_version

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
MONAI = "1.6.1"
"""With which the tests run a bundle."""
TASK = "Outlines one lung tumor on chest CT that a person points at"
LIMITS = (
    "One look of the network at one patch, around a point that must be given: it finds no tumors. It assumes a tumor "
    "of the mean size of training unless size_mm is given. `clmsda segment` asks the same network about several sizes, "
    "looks again at finer voxels, joins the answers, keeps the piece at the point, measures it and says how far to "
    "trust it: published scores are of that, not of this bundle."
)
USE = "Research only. This is not a medical device, and nobody has tested it for diagnosis or treatment planning."


class BundleError(InputError):
    """A model that cannot be a bundle, or a case that a bundle's inference cannot use."""


def write(model: Trained, folder: Path) -> None:
    """Write a bundle as a new folder, whole or not at all. Needs torch, whose file of weights MONAI reads.

    Raises BundleError for a two-dimensional model, OutputError for a folder that has something in it.
    """
    if model.config.patches.spatial_dims != 3:
        raise BundleError(
            f"a bundle holds a three-dimensional model, found {model.version} of two dimensions: use --onnx for it"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"cannot write the bundle {folder}: there is something already; choose a new folder")
    parent = make_folder(folder.absolute().parent)
    with temporary_folder(parent) as temporary:
        made = make_folder(temporary / "bundle")
        for name, content in (("metadata", metadata(model)), ("inference", inference(model))):
            path = make_folder(made / "configs") / f"{name}.json"
            path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (make_folder(made / "docs") / "README.md").write_text(page(model), encoding="utf-8")
        _write_weights(model, make_folder(made / "models") / "model.pt")
        if folder.exists():
            folder.rmdir()  # empty; Windows renames onto nothing that is there
        os.replace(made, folder)


def _write_weights(model: Trained, path: Path) -> None:
    """Tensors by name: MONAI reads them as such, and no other pickle (`weights_only`)."""
    import torch

    torch.save({name: torch.tensor(array) for name, array in model.weights.items()}, path)


def metadata(model: Trained) -> dict[str, Any]:
    """What the bundle is and is not, by MONAI's schema."""
    shape, outputs = list(model.config.patches.shape), {"type": "image", "num_channels": 1, "dtype": "float32"}
    outputs |= {"spatial_shape": shape, "is_patch_data": True}
    inputs = {**outputs, "format": "magnitude", "modality": "CT", "num_channels": model.config.patches.channels}
    logits = {**outputs, "format": "magnitude", "value_range": [], "channel_def": {"0": "logit of tumor"}}
    chances = {**outputs, "format": "magnitude", "value_range": [0, 1], "channel_def": {"0": "probability of tumor"}}
    found = {
        "schema": SCHEMA,
        "version": software_version(),
        "changelog": {software_version(): f"exported from {model.version} by {software()}"},
        "monai_version": MONAI,
        "pytorch_version": version_of("torch").partition("+")[0],
        "numpy_version": version_of("numpy"),
        "required_packages_version": {"clmsda": software_version(), "pytorch-ignite": "0.5.5"},
        "name": f"clmsda {model.name}",
        "task": TASK,
        "description": f"CL-MSDA-Net, {model.version}. {LIMITS}",
        "intended_use": USE,
        "authors": "The clmsda contributors" if _comes_along(model) else "not said: a model of one's own",
        "copyright": _license(model),
        "data_source": json.dumps(model.config.provenance),
        "data_type": "dicom, nifti, nrrd or mha: whatever clmsda.read_ct reads",
        "eval_metrics": {},
        "references": ["Lee J, Lee MJ, Kim BS, Hong H. J X-Ray Sci Technol 2023;31(5):879-892. doi:10.3233/XST-230003"],
        "network_data_format": {
            "inputs": {"image": {**inputs, "value_range": [0, 1], "channel_def": channels(model.config.patches)}},
            "outputs": {"pred": logits},
            "post_processed_outputs": {"pred": chances},
        },
    }
    return found


def channels(patches: PatchConfig) -> dict[str, str]:
    """What each input channel holds, by its number: prompts are channels, too, and no part of the CT."""
    names = [f"the CT, {low:g} to {high:g} HU as 0 to 1" for low, high in patches.windows_hu]
    if patches.mark_prompt:
        names.append(f"prompt: {patches.marks} marks at points in the tumor; without one the network was never trained")
    if patches.corrections:
        names += [
            "prompt: marks at points outside of the tumor; 0 where there are none, as in this bundle's inference",
            "prompt: marks at the ends of a line or the faces of a box; 0 in this bundle's inference",
            "the mask, or probabilities, before; 0 where there are none, as in this bundle's inference",
        ]
    return {str(number): name for number, name in enumerate(names)}


def inference(model: Trained) -> dict[str, Any]:
    """MONAI's configuration of an inference: cases of a CT and a point in, the patch's probabilities out."""
    config = model.config
    read = {"_target_": "clmsda.bundles.read_patch", "_mode_": "callable", "config": "@patches"}
    tensor = "$lambda case: {'image': MetaTensor(case['image'], affine=case['affine'], meta=case['meta'])}"
    # As NIfTI has its axes. MONAI 1.6's writer fails on others: it looks at two axes of the three.
    turn = (
        "$lambda x: MetaTensor(x.as_tensor().permute(0, 3, 2, 1), affine=x.affine[:, [2, 1, 0, 3]], "
        "meta={'filename_or_obj': x.meta['filename_or_obj']})"
    )
    save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "probabilities"}
    loader = {"_target_": "CheckpointLoader", "load_path": "@ckpt_path", "load_dict": {"model": "@network"}}
    return {
        "imports": ["$import os", "$import torch", "$from monai.data import MetaTensor"],
        "bundle_root": ".",
        "dataset_dir": "$os.path.dirname(str(@image))",
        "output_dir": "$@bundle_root + '/eval'",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "image": "",
        "point_mm": None,
        "size_mm": None,
        "cases": "$[{'image': @image, 'point_mm': @point_mm, 'size_mm': @size_mm}]",
        "patches": {"_target_": "clmsda.patches.PatchConfig", **asdict(config.patches)},
        "network_def": {
            "_target_": "clmsda.networks.build",
            "config": {"_target_": "clmsda.networks.NetworkConfig", **asdict(config.network)},
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [read, {"_target_": "Lambda", "func": tensor}]},
        "dataset": {"_target_": "Dataset", "data": "@cases", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {"_target_": "Lambdad", "keys": "pred", "func": turn},
                {**save, "resample": False, "separate_folder": False, "output_dtype": "$torch.float32"},
            ],
        },
        "handlers": [loader],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def read_patch(case: Mapping[str, Any], config: PatchConfig) -> dict[str, Any]:
    """What a bundle's inference makes of a case, as `clmsda segment` would: the patch around a point.

    case: "image", a CT as `read_ct` takes it; "point_mm", in the tumor, LPS; "size_mm", its longest diameter, or None
    for the mean of training. Returns "image" (channels, slices, rows, columns) float32, "affine" from these indices to
    RAS mm, as MONAI has it, and "meta". Raises BundleError without a point, PromptError for one outside of the CT.
    """
    from clmsda.geometry import LPS_FROM_RAS

    point = case.get("point_mm")
    if not isinstance(point, list | tuple) or len(point) != 3:
        raise BundleError(f"expected --point_mm '[X, Y, Z]', a point in the tumor in LPS mm, found {point!r}")
    ct, prompt = read_ct(case["image"]), Point(tuple(point))
    check_in_image(prompt, ct.grid)
    ratio = config.ratio(case["size_mm"]) if case.get("size_mm") else 1.0
    grid = view_grid(config, prompt.lps_mm, ratio, directions=directions_of(ct.grid))
    meta = {"filename_or_obj": str(case["image"])}
    return {"image": cut(ct, grid, config), "affine": LPS_FROM_RAS @ grid.affine, "meta": meta}


def page(model: Trained) -> str:
    """The bundle's README, as Markdown: what it is, how it is run, and the model's card where it has one."""
    lines = [f"# clmsda {model.name}, a MONAI bundle", "", f"{TASK}. {USE}", "", LIMITS, "", "## How to run it", ""]
    lines += [
        "It needs MONAI, pytorch-ignite, fire, and `clmsda` itself, which cuts the patch and builds the network.",
        "",
    ]
    command = "python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json"
    lines += [
        f"    {command} \\",
        "        --image CT.nii.gz --point_mm '[82.5, -199.8, -459.5]' --output_dir eval",
        "",
    ]
    lines += ["The point is in LPS mm. What comes out are the tumor probabilities of the patch, placed in space.", ""]
    lines += ["## License", "", f"{_license(model)}.", ""]
    if _comes_along(model):
        lines += ["---", "", (shipped.WEIGHTS / shipped.CARDS[model.name]).read_text(encoding="utf-8")]
    return "\n".join(lines)


def _comes_along(model: Trained) -> bool:
    """Whether these weights are those of a model that comes with the package."""
    return model.name in shipped.available() and shipped.facts(model.name)["sha256"] == model.digest


def _license(model: Trained) -> str:
    if _comes_along(model):
        return f"The clmsda contributors; code and weights: {shipped.license_of(model.name)}"
    return "code: Apache-2.0; weights: not said, ask who trained them"
