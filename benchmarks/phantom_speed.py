"""Seconds and processor seconds that a synthetic CT takes, drawn and written, at several sizes.

    python benchmarks/phantom_speed.py [--seeds 2 15] [--matrix 128 256 512] [--threads 1]

The last column is a checksum of the voxels: two versions of the code draw the same CT where it is the same. Processor
seconds are what to compare on a machine that has other work. How many pairs of patches training draws is measured by
training_speed.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from pathlib import Path

import torch

from clmsda import phantoms
from clmsda.images import write_image, write_mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 15])
    parser.add_argument("--matrix", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    phantoms.scan(phantoms.sample(0), matrix=64)  # what is made once is made here
    print("matrix seed slices   drawn s  CPU s  ns/voxel   written s  CPU s   checksum")
    for matrix in options.matrix:
        for seed in options.seeds:
            phantom = phantoms.sample(seed)
            start, spent = time.perf_counter(), time.process_time()
            ct, mask = phantoms.scan(phantom, matrix=matrix)
            drawn, spent_drawing = time.perf_counter() - start, time.process_time() - spent
            start, spent = time.perf_counter(), time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                write_image(ct, Path(folder, "ct.nii.gz"))
                write_mask(mask, Path(folder, "mask.nii.gz"))
            written, spent_writing = time.perf_counter() - start, time.process_time() - spent
            print(
                f"{matrix:6} {seed:4} {len(ct.voxels):6} {drawn:9.1f} {spent_drawing:6.1f} "
                f"{spent_drawing / ct.voxels.size * 1e9:9.0f} {written:11.1f} {spent_writing:6.1f}   "
                f"{zlib.crc32(ct.voxels):08x} {zlib.crc32(mask.voxels):08x}",
                flush=True,
            )


if __name__ == "__main__":
    main()
