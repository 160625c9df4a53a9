"""A cohort of phantoms: synthetic CT volumes and masks as files, and the table that training reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clmsda.cohorts.adding import add_case
from clmsda.cohorts.cohort import TABLE, Case, Cohort, CohortError
from clmsda.files import make_folder


def write_phantoms(
    folder: Path | str,
    cases: int,
    *,
    seed: int = 0,
    matrix: int = 512,
    progress: Callable[[Case], None] | None = None,
    drawing: Callable[[float], None] | None = None,
) -> Cohort:
    """Write `cases` synthetic CTs (images/*.nii.gz, masks/*.nii.gz) and their slabs and table.

    Case number i is phantom `seed + i`. matrix: rows and columns of each CT. Cases that the folder
    holds already are kept, so an interrupted run continues where it stopped; what is damaged is made anew.
    progress: called with each case that is done. drawing: with the share of a case that is drawn, many times a case.
    Raises CohortError for a folder with cases of another matrix.
    """
    from clmsda import phantoms  # needs torch, which a cohort of real CT does not
    from clmsda.images import write_image, write_mask

    folder = Path(folder)
    make_folder(folder / "images")
    make_folder(folder / "masks")
    done = _whole(Cohort.open(folder), matrix) if (folder / TABLE).is_file() else {}
    for number in range(seed, seed + cases):
        name = f"phantom-{number:05d}"
        if name not in done:
            image, mask = phantoms.scan(phantoms.sample(number), matrix=matrix, progress=drawing)
            image_path, mask_path = f"images/{name}.nii.gz", f"masks/{name}.nii.gz"
            write_image(image, folder / image_path)
            write_mask(mask, folder / mask_path)
            done[name] = add_case(folder, name, image, mask, image_path=image_path, mask_path=mask_path)
        if progress:
            progress(done[name])
    return Cohort.open(folder)


def _whole(cohort: Cohort, matrix: int) -> dict[str, Case]:
    """The cases whose files are all there. Raises CohortError where they are of another matrix."""
    found = {}
    for case in cohort.cases:
        if not all((cohort.folder / path).is_file() for path in (case.image, case.mask)):
            continue
        try:
            rows = cohort.slab(case)[0].grid.shape[1]
        except CohortError:
            continue
        if rows != matrix:
            raise CohortError(
                f"{cohort.folder} holds CTs of {rows} rows, for instance {case.case}, but {matrix} are asked for: "
                f"choose another folder, or --matrix {rows}"
            )
        found[case.case] = case
    return found
