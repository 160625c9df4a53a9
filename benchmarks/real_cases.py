"""F1 on the real tumors of ../shared/data by protocol: one click, a RECIST line, the true center and size.

    python benchmarks/real_cases.py [MODEL ...] [--shared ../shared/data] [--clicks 8] [--classical]

point: the center of the true mask's largest slice, moved inside the mask; no size.
recist: the true long diameter in that slice. oracle: a box with the true center and size.
--clicks N: also N random clicks within the inner half of the tumor: mean F1 and mean change.
--classical: SimpleITK's confidence-connected region growing from the same clicks, best single setting.
Scores count every slice of the scan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from clmsda.geometry import Volume
from clmsda.images import read_ct, read_mask
from clmsda.measurements import Measurement, measure
from clmsda.metrics import f1
from clmsda.models import Model, load
from clmsda.prompts import Box, Point, Prompt, RecistLine
from clmsda.segmentation import Segmentation, segment
from clmsda.studies.peers import grow
from clmsda.studies.protocols import inner_clicks

LUNG1 = "nsclc-radiomics/NSCLC-Radiomics/LUNG1-001"


NAMES = ("IBSI", "LUNG1-001", "LIDC-IDRI-0001")


def read_case(name: str, shared: Path) -> tuple[Volume, Volume]:
    """CT and true mask of a labeled case."""
    if name == "IBSI":
        ct = read_ct(shared / "ibsi-ct-phantom" / "dicom")
        return ct, read_mask(shared / "ibsi-ct-phantom" / "mask.nii.gz", grid=ct.grid)
    if name == "LUNG1-001":
        ct = read_ct(shared / LUNG1)
        (contours,) = (path for path in (shared / LUNG1).glob("*/*/*.dcm") if len(list(path.parent.glob("*.dcm"))) == 1)
        return ct, read_mask(contours, grid=ct.grid, roi="GTV-1")
    ct = read_ct(shared / "lidc-idri" / name / "ct.nii.gz")
    return ct, read_mask(shared / "lidc-idri" / name / "nodule.nii.gz", grid=ct.grid)


def prompts(truth: Measurement) -> dict[str, Prompt]:
    """The three protocols' prompts."""
    center, half = np.array(truth.center_mm), truth.long_axis_mm / 2
    oracle = Box(tuple(center - [half, half, 0]), tuple(center + [half, half, 0]))
    return {"point": Point(truth.center_mm), "recist": RecistLine(*truth.long_axis_lps), "oracle": oracle}


def score(found: Segmentation, truth: Volume) -> float:
    return f1(found.mask.voxels > 0, truth.voxels > 0)


def report(model: Model, name: str, ct: Volume, mask: Volume, clicks: int) -> dict[str, float]:
    """Scores of one model on one case, printed as one line."""
    truth = measure(mask)
    row: dict[str, float] = {}
    for protocol, prompt in prompts(truth).items():
        found = segment(ct, prompt, model)
        row[protocol] = score(found, mask)
        if protocol == "point" and found.lesions[0].measurement:
            row["size error"] = found.lesions[0].measurement.long_axis_mm / truth.long_axis_mm - 1
            row["confidence"] = found.lesions[0].confidence
    if clicks:
        points = inner_clicks(mask, np.array(truth.center_mm), clicks, seed=0)
        scores = [score(segment(ct, point, model), mask) for point in points]
        row["clicks"] = float(np.mean(scores))
        row["change"] = float(np.mean(np.abs(np.array(scores) - row["point"])))
    print(f"{model.name:24s} {name:16s}" + "".join(f" {key} {value:.3f}" for key, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["shipped"])
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--clicks", type=int, default=0)
    parser.add_argument("--classical", action="store_true")
    options = parser.parse_args()
    known = {name: read_case(name, options.shared) for name in NAMES}
    for model in map(load, options.models):
        rows = [report(model, name, ct, mask, options.clicks) for name, (ct, mask) in known.items()]
        print(f"{model.name:24s} mean            ", *(f"{k} {np.mean([r[k] for r in rows]):.3f}" for k in rows[0]))
    if options.classical:
        for multiplier in (1.5, 2.0, 2.5):
            scores = [
                f1(grow(ct, np.array(measure(m).center_mm), multiplier), m.voxels > 0) for ct, m in known.values()
            ]
            print(f"confidence-connected {multiplier}:", *(f"{s:.3f}" for s in scores), f"mean {np.mean(scores):.3f}")


if __name__ == "__main__":
    main()
