"""`clmsda find` on the labeled whole CTs of ../shared/data: is the tumor found, how well, what else, how long?

    python benchmarks/find_cases.py [--detector detector] [--sensitivity S] [--pictures FOLDER] [--also CT ...]

For each CT: every lesion with its probability and confidence, its F1 with the truth beside the click's, and the time
and memory of the whole command in a process of its own. --also: CTs without a mask, whose lesions are listed.
Few CTs, so an anecdote; some of them were looked at while this was built.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from real_cases import LUNG1, NAMES, read_case, score

from clmsda.images import read_mask
from clmsda.measurements import measure
from clmsda.metrics import f1
from clmsda.models import load
from clmsda.prompts import Point
from clmsda.segmentation import segment


def path_of(name: str, shared: Path) -> Path:
    places = {"IBSI": "ibsi-ct-phantom/dicom", "LUNG1-001": LUNG1}
    return shared / places.get(name, f"lidc-idri/{name}/ct.nii.gz")


def found_in(ct: Path, options: argparse.Namespace, folder: Path) -> tuple[list[dict], float, float]:
    """The lesions as the JSON has them, the mask in `folder`; wall seconds, processor seconds."""
    command = [
        sys.executable,
        "-m",
        "clmsda",
        "find",
        ct,
        "-o",
        folder / "mask.nii.gz",
        "--json",
        folder / "found.json",
    ]
    command += ["--detector", options.detector]
    if options.sensitivity:
        command += ["--sensitivity", options.sensitivity]
    if options.pictures:
        options.pictures.mkdir(exist_ok=True)
        command += ["--preview", options.pictures / f"{ct.name.split('.')[0]}-{ct.parent.name}.png"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return json.loads((folder / "found.json").read_text())["lesions"], time.monotonic() - started, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--detector", default="detector")
    parser.add_argument("--sensitivity", type=float)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    for name in [*NAMES, *options.also]:
        ct = name if isinstance(name, Path) else path_of(name, options.shared)
        with tempfile.TemporaryDirectory() as made:
            lesions, wall, processor = found_in(ct, options, Path(made))
            print(f"{name}: {len(lesions)} lesions, {wall:.1f} s, processor {processor:.1f} s")
            truth = None
            if not isinstance(name, Path):
                volume, truth = read_case(name, options.shared)
                mask = read_mask(Path(made) / "mask.nii.gz", grid=volume.grid).voxels
                click = score(segment(volume, Point(measure(truth).center_mm), load()), truth)
                print(f"  one click: F1 {click:.3f}")
            for one in lesions:
                line = f"  {one['label']}: probability {one['probability']:.2f} confidence {one['confidence']:.2f}"
                line += f" long axis {one['long_axis_mm']:.0f} mm at {one['center_lps']}"
                if truth is not None and (value := f1(mask == one["label"], truth.voxels > 0)):
                    line += f"  F1 {value:.3f}"
                print(line, flush=True)
    print(f"peak memory of a process {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
