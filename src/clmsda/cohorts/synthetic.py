"""A cohort of phantoms: synthetic CT volumes and masks as files, and the table that training reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clmsda import phantoms
from clmsda.cohorts.cohort import TABLE, Case, Cohort, add_case


def write_phantoms(
    folder: Path | str,
    cases: int,
    *,
    seed: int = 0,
    matrix: int = 512,
    progress: Callable[[Case], None] | None = None,
) -> Cohort:
    """Write `cases` synthetic CTs (images/*.nii.gz, masks/*.nii.gz) and their slabs and table.

    Case number i is phantom `seed + i`. matrix: rows and columns of each CT. Cases that the folder
    holds already are kept, so an interrupted run continues where it stopped.
    """
    from clmsda.images import write_image, write_mask

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    done = {case.case: case for case in Cohort.open(folder).cases} if (folder / TABLE).is_file() else {}
    for number in range(seed, seed + cases):
        name = f"phantom-{number:05d}"
        if name not in done:
            image, mask = phantoms.scan(phantoms.sample(number), matrix=matrix)
            image_path, mask_path = f"images/{name}.nii.gz", f"masks/{name}.nii.gz"
            write_image(image, folder / image_path)
            write_mask(mask, folder / mask_path)
            done[name] = add_case(folder, name, image, mask, image_path=image_path, mask_path=mask_path)
        if progress:
            progress(done[name])
    return Cohort.open(folder)
