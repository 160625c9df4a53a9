"""clmsda beside its peers in one run: from CT to mask, reading DICOM, training steps, and what the machine can do.

    python benchmarks/peers                               on the phantom of `clmsda demo`, and on LUNG1-001 if at hand
    python benchmarks/peers --ct SERIES --point=X,Y,Z     another CT in the place of LUNG1-001
    python benchmarks/peers --draw                        tables and picture anew, of what was measured

The peers (requirements.txt) are installed into .cache/peers, an environment of its own that sees what this Python's
has. There each part runs in a process with one thread, all things by turns. Believe the processor seconds: wall seconds
are those of whatever else the machine does. Results go to .cache/peers.json part by part, and from there into
docs/performance.md and docs/images/performance.png.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
sys.path[0] = str(HERE.parent)  # so that files here shadow no package's name

from peers.rounds import Contestant, by_turns  # noqa: E402

HOME, RESULTS = ROOT / ".cache" / "peers", ROOT / ".cache" / "peers.json"
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "performance.png"
PATIENT = ROOT.parent / "shared" / "data" / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001"
CLICK = "82.5,-199.8,-459.5"
PARTS = ("reading", "steps 2-D float32", "steps 3-D float32", "masks", "steps 2-D bfloat16", "steps 3-D bfloat16")
SHOWN = ("clmsda", "torch", "openvino", "nnunetv2", "monai", "SimpleITK", "pydicom", "lungmask", "dicom2nifti", "numpy")
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "nnUNet_def_n_proc", "nnUNet_n_proc_DA",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ct", type=Path, help="a folder with one DICOM series")
    parser.add_argument("--point", default=CLICK, help="X,Y,Z in its tumor, LPS mm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure these alone, anew")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # what the process of one part writes
    options = parser.parse_args()
    ct = options.ct or next(PATIENT.glob("*/0.000000-NA-82046"), None)
    if options.into:
        options.into.write_text(json.dumps(measured(options.parts[0], ct, options.point, options.rounds)))
        return
    if not options.draw:
        install()
        cts = [ct, None] if ct else [None]
        for part in options.parts:
            for one in cts if part in ("reading", "masks") else [None]:
                keep(part, one, options.point, options.rounds)
    from peers import picture, tables

    results = dict(sorted(json.loads(RESULTS.read_text()).items(), key=lambda part: tables.place(part[0])))
    tables.rewrite(PAGE, results)
    picture.draw(results, PICTURE)


def install() -> None:
    """The peers' environment; one that is there and was made from the same list is kept."""
    wanted = (HERE / "requirements.txt").read_text()
    stamp = HOME / "installed.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    import site

    venv.create(HOME, clear=True)
    python = HOME / "bin" / "python"
    where = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
    Path(where, "clmsda_venv.pth").write_text(f"import site; site.addsitedir({site.getsitepackages()[0]!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", "-r", HERE / "requirements.txt"], check=True)
    stamp.write_text(wanted)


def keep(part: str, ct: Path | None, point: str, rounds: int) -> None:
    """Measure one part in a process of the peers' environment, and add it to the results."""
    said = f"{part}{'' if 'steps' in part else ', LUNG1-001' if ct else ', phantom'}"
    print(f"{said} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        into = Path(scratch, "part.json")
        command = [HOME / "bin" / "python", HERE, "--parts", part, "--rounds", str(rounds), "--into", into]
        command += ["--ct", ct or "phantom", f"--point={point}"]
        with open(Path(scratch, "said"), "w+") as log:  # of libraries, which print as they like
            done = subprocess.run(
                command, env={**os.environ, **dict.fromkeys(THREADS, "1")}, stdout=log, stderr=subprocess.STDOUT
            )
            if done.returncode:
                log.seek(0)
                sys.exit(f"{log.read()[-4000:]}\n{said} failed")
        found = json.loads(into.read_text())
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**results, said: found}, indent=1))


def measured(part: str, ct: Path, point: str, rounds: int) -> dict[str, object]:
    """What is timed, and on what. Runs in the peers' environment."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        facts, contestants = contest(part, ct, point, Path(scratch))
        times = by_turns(contestants, rounds)
    load.append(os.getloadavg()[0])
    versions = {name: metadata.version(name) for name in SHOWN}
    return {"times": [one.to_json() for one in times], "load": load, "versions": versions, "facts": facts}


def contest(part: str, ct: Path, point: str, scratch: Path) -> tuple[dict[str, object], list[Contestant]]:
    from peers import limits, masks, reading, steps

    if part.startswith("steps"):
        return {}, [*steps.contestants(2 if "2-D" in part else 3, half="bfloat16" in part), *limits.contestants()]
    from clmsda import images, measurements, prompts
    from clmsda.cli.demo import SHIPPED

    if str(ct) == "phantom":
        volume = images.read_ct(SHIPPED / "ct.nii.gz")
        truth = images.read_mask(SHIPPED / "truth.nii.gz", grid=volume.grid)
        click = prompts.Point(measurements.measure(truth).center_mm)
    else:
        volume, click = images.read_ct(ct), prompts.Point(tuple(map(float, point.split(","))))
    facts = {"shape": volume.grid.shape, "spacing_mm": volume.grid.spacing_mm.tolist()}
    if part == "masks":
        return facts, [*masks.contestants(volume, click, scratch), *limits.contestants()]
    if str(ct) == "phantom":
        sys.path.append(str(ROOT / "tests"))
        from dicom_series import write_series

        write_series(ct := scratch / "series", volume)
    return facts, reading.contestants(ct)


if __name__ == "__main__":
    main()
