"""A phantom through a PACS and back, drawn from what the PACS gives: docs/images/pacs.png.

    python benchmarks/pacs_picture.py [--seed 34] [--picture docs/images/pacs.png]

Starts Orthanc on loopback, files a synthetic CT in it, runs `clmsda pacs segment` with one click, pulls CT, SEG,
RTSTRUCT and SR by `clmsda pacs pull`, and draws each object on the CT's measured slice. Needs Orthanc (make orthanc).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from clmsda import measure, phantoms, read_ct, read_mask
from clmsda.geometry import Volume

TESTS = Path(__file__).resolve().parents[1] / "tests"
FIELD_MM = 90.0
COLORS = ("#ffb74d", "#4fc3f7", "#f48fb1")


def command(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("$ clmsda", *words, flush=True)
    subprocess.run([sys.executable, "-m", "clmsda", *words], check=True)


def run(seed: int, folder: Path) -> dict[str, Path]:
    """File, segment, pull: the folder of each series that Orthanc then holds, by modality."""
    sys.path.insert(0, str(TESTS))
    import orthanc
    from dicom_series import write_series

    ct, truth = phantoms.scan(phantoms.sample(seed), matrix=256)

    def edit(dataset: Dataset, _: int) -> None:
        dataset.PatientName, dataset.PatientID = f"Phantom^{seed}", f"PHANTOM-{seed}"
        dataset.SeriesDescription = "synthetic chest"

    write_series(folder / "ct", ct, edit=edit)
    header = dcmread(next((folder / "ct").iterdir()))
    click = ",".join(f"{value:.1f}" for value in measure(truth).center_mm)
    pulled = {}
    with orthanc.running() as pacs:
        command("pacs", "send", folder / "ct", "--host", "127.0.0.1", "--port", pacs.dicom_port, "--aet", "ORTHANC")
        command("pacs", "segment", "--url", pacs.url, "--series", header.SeriesInstanceUID, f"--point={click}")
        for series in pacs.json("series?expand"):
            tags = series["MainDicomTags"]
            pulled[tags["Modality"]] = folder / "back" / tags["Modality"]
            out = pulled[tags["Modality"]]
            out.parent.mkdir(exist_ok=True)
            command("pacs", "pull", "--url", pacs.url, "--series", tags["SeriesInstanceUID"], "--out", out)
    return pulled


def only(folder: Path) -> Dataset:
    (path,) = folder.iterdir()
    return dcmread(path)


def contours(rtstruct: Dataset) -> list[NDArray[np.float64]]:
    """(n, 3) LPS mm of each contour."""
    items = [item for roi in rtstruct.ROIContourSequence for item in roi.ContourSequence]
    return [np.array(item.ContourData, float).reshape(-1, 3) for item in items]


def lines(item: Dataset) -> list[NDArray[np.float64]]:
    """(2, 2) column and row of both ends of each line of a report, counted from the first pixel's center."""
    if item.get("ValueType") == "SCOORD" and item.GraphicType == "POLYLINE":
        return [np.array(item.GraphicData, float).reshape(-1, 2) - 0.5]
    return [line for child in item.get("ContentSequence", ()) for line in lines(child)]


def draw(pulled: dict[str, Path], path: Path) -> None:
    ct = read_ct(pulled["CT"])
    mask = read_mask(pulled["SEG"], grid=ct.grid)
    found = measure(Volume(mask.voxels == 1, ct.grid))
    k = found.measured_slice
    figure = Figure(figsize=(10.8, 3.9), facecolor="#0b0d10", dpi=120)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.92, wspace=0.02)
    panels = figure.subplots(1, 3)
    for panel, title in zip(panels, ("SEG: segment 1", "RTSTRUCT: contour", "SR: long and short axis"), strict=True):
        show(panel, ct, k, ct.grid.to_index(found.center_mm), title)
    inside = np.where(mask.voxels[k] == 1, 1.0, np.nan)
    panels[0].imshow(inside, cmap="Wistia", vmin=0, vmax=1.2, alpha=0.45, interpolation="nearest")
    for points in contours(only(pulled["RTSTRUCT"])):
        index = ct.grid.to_index(points)
        if abs(index[0, 0] - k) < 0.5:
            closed = np.vstack([index, index[:1]])
            panels[1].plot(closed[:, 2], closed[:, 1], color=COLORS[0], linewidth=1.2)
    for color, line in zip(COLORS[1:], lines(only(pulled["SR"])), strict=True):
        panels[2].plot(line[:, 0], line[:, 1], color=color, linewidth=1.6)
    figure.savefig(path, facecolor=figure.get_facecolor())
    print(f"{path}: slice {k}, {found.volume_ml:.2f} ml, {found.long_axis_mm:.1f} x {found.short_axis_mm:.1f} mm")


def show(panel: Axes, ct: Volume, k: int, center: NDArray[np.float64], title: str) -> None:
    half = FIELD_MM / 2 / ct.grid.spacing_mm[1]
    panel.imshow(ct.voxels[k], cmap="gray", vmin=-1350, vmax=150, interpolation="bicubic")
    panel.set_xlim(center[2] - half, center[2] + half)
    panel.set_ylim(center[1] + half, center[1] - half)
    panel.set_title(title, color="#e8eaed", fontsize=11)
    panel.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=34)
    parser.add_argument("--picture", type=Path, default=Path("docs/images/pacs.png"))
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        draw(run(arguments.seed, Path(folder)), arguments.picture)


if __name__ == "__main__":
    main()
