"""How long a large CT takes to open in `clmsda serve`, to arrive as voxels, to be clicked and saved; and peak memory.

    python benchmarks/serve_large.py                            512x512x600 voxels, a synthetic NIfTI
    python benchmarks/serve_large.py --slices 200 --model FILE

The CT is a body of water with two lungs and noise, written as .nii (and gzipped, to be uploaded), so that reading,
checking and hashing cost what they cost on a real one. Peak memory is the server's own (Linux: VmHWM).
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from clmsda.geometry import Grid, Volume
from clmsda.images import write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--model", default="shipped")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(chest(given.slices), folder / "ct.nii")
        with open(folder / "ct.nii", "rb") as plain, gzip.open(folder / "up.nii.gz", "wb", compresslevel=1) as packed:
            packed.write(plain.read())
        command = [sys.executable, "-m", "clmsda", "serve", folder / "ct.nii", "--port", "0", "--no-open"]
        environment = os.environ | {"XDG_STATE_HOME": name, "PYTHONUNBUFFERED": "1"}
        server = subprocess.Popen(
            [*map(str, command), "--model", given.model], stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            ask(server, folder)
        finally:
            server.terminate()
            server.wait()


def chest(slices: int) -> Volume:
    """Two lungs in a body, a tumor of 40 mm in the left one; voxels of 0.7 x 0.7 x 0.6 mm."""
    grid = Grid.axial((slices, 512, 512), (0.6, 0.7, 0.7), center_mm=(0, 0, 0))
    y, x = np.ogrid[-1:1:512j, -1:1:512j]
    plane = np.where(x**2 / 0.8 + y**2 / 0.5 < 1, 40, -1000)
    for side in (-1, 1):
        plane[(x - side * 0.42) ** 2 / 0.1 + y**2 / 0.25 < 1] = -850
    noise = np.random.default_rng(0).normal(0, 20, (8, 512, 512)).astype(np.int16)
    voxels = np.empty(grid.shape, np.int16)
    tumor = np.linalg.norm(
        np.stack(np.meshgrid(*[np.arange(-40, 41)] * 3, indexing="ij"), -1) * (0.6, 0.7, 0.7), axis=-1
    )
    for k in range(slices):
        voxels[k] = np.clip(plane + noise[k % 8], -1024, None)
    k, j, i = slices // 2, 256, 364
    part = voxels[k - 40 : k + 41, j - 40 : j + 41, i - 40 : i + 41]
    part[tumor < 20] = 40
    return Volume(voxels, grid)


def ask(server: subprocess.Popen[str], folder: Path) -> None:
    assert server.stdout is not None
    address = next(line.split()[1] for line in server.stdout if line.startswith("open http"))
    base, key = address.split("/?key=")
    headers = {"Authorization": f"Bearer {key}", "X-Clmsda": "1"}
    with httpx.Client(base_url=base, headers=headers, timeout=600, trust_env=False) as client:

        def done(answer: httpx.Response) -> Any:
            answer.raise_for_status()
            while True:
                record = client.get(f"/api/jobs/{answer.json()['job']}?wait=25").json()
                if record["done"]:
                    if record["error"]:
                        raise SystemExit(record["error"])
                    return record["result"]

        ct = timed("open", server, lambda: done(client.post("/api/open", json={"given": 0})))["id"]
        timed("voxels to the client", server, lambda: client.get(f"/api/ct/{ct}/volume.nii").content)
        said = {"said": {"kind": "Point", "lps_mm": [75.6, 0.35, 0.3]}}
        timed("click", server, lambda: done(client.post(f"/api/ct/{ct}/prompt", json=said)))
        timed("mask and report", server, lambda: [
            client.get(f"/api/ct/{ct}/save/{kind}").raise_for_status() for kind in ("mask.nii.gz", "report.pdf")
        ])  # fmt: skip
        client.delete(f"/api/ct/{ct}")
        with open(folder / "up.nii.gz", "rb") as file:
            timed(
                "upload (.nii.gz) and open",
                server,
                lambda: done(client.post("/api/upload?name=up.nii.gz", content=file)),
            )


def timed(what: str, server: subprocess.Popen[str], work: Any) -> Any:
    begun = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begun
    status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    peak_mb = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    print(f"{what:28} {seconds:6.1f} s   peak so far {peak_mb:6.0f} MB", flush=True)
    return result


if __name__ == "__main__":
    main()
