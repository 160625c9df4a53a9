"""Pairs of image and mask: as a CSV says, or found in a plain folder by their names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from clmsda.cohorts.candidates import Candidate, Exclusion, Listing
from clmsda.cohorts.cohort import CohortError
from clmsda.cohorts.layouts import stem
from clmsda.cohorts.parts import rows
from clmsda.images.voxel_files import READ_SUFFIXES, is_voxel_file

REQUIRED = ("image", "mask")
OPTIONAL = ("case", "patient", "series", "roi", "label", "histology", "collection")

_MASK = r"(?:masks?|labels?|seg|segmentations?|gtv|lesion|nodule|tumou?r)"
_IMAGE = r"(?:ct|images?|scan|volume)"
_ENDS_AS_MASK = re.compile(rf"(?:^|[ ._-]){_MASK}$", re.IGNORECASE)
_ENDS_AS_IMAGE = re.compile(rf"(?:^|[ ._-]){_IMAGE}$", re.IGNORECASE)
_FOLDER = re.compile(rf"(?:{_MASK}|{_IMAGE})(?:tr)?", re.IGNORECASE)
_MASKS_FOLDER = re.compile(rf"{_MASK}(?:tr)?", re.IGNORECASE)


def pairs(source: Path | str, label: str = "") -> Listing:
    """The pairs of a CSV, or of a folder. label: the number that is tumor in all masks that do not say otherwise.

    Raises CohortError for a CSV without the columns it needs, or a folder without images.
    """
    source = Path(source)
    if label and not label.isdecimal():
        raise CohortError(f"expected --label to be a number for a folder of masks, found {label!r}")
    labels = (int(label),) if label else ()
    return _from_folder(source, labels, _patients(source)) if source.is_dir() else _from_csv(source, labels)


def _patients(source: Path) -> dict[str, dict[str, str]]:
    """What a table beside the folder (lesions.csv) says of its cases, by name; nothing where there is none.

    Its column `case` holds FOLDER/NAME; `patient`, `histology` and `collection` are taken. Raises CohortError.
    """
    table = source.resolve().parent / "lesions.csv"
    if not table.is_file():
        return {}
    inside = f"{source.resolve().name}/"
    return {
        row["case"].removeprefix(inside): row
        for row in rows(table, ("case", "patient"))
        if row["case"].startswith(inside)
    }


def _from_csv(path: Path, labels: tuple[int, ...]) -> Listing:
    """Columns image and mask (relative to the CSV's folder), and as wanted those of `OPTIONAL`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or []]
            rows = list(reader)
    except OSError as error:
        raise CohortError(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CohortError(f"{path} is not a table of comma-separated values ({error})") from error
    unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
    if unknown or not set(REQUIRED) <= set(columns):
        raise CohortError(
            f"{path}: expected the columns image and mask, and as wanted {', '.join(OPTIONAL)}; "
            f"found {', '.join(columns) or 'none'}"
        )
    return Listing(tuple(_row(row, path, line, labels) for line, row in enumerate(rows, 2)), ())


def _row(cells: dict[str, str], path: Path, line: int, labels: tuple[int, ...]) -> Candidate:
    if None in cells:
        raise CohortError(f"{path}, line {line}: found more cells than columns: quote those that hold a comma")
    row = {column: (text or "").strip() for column, text in cells.items()}
    if not row["image"] or not row["mask"]:
        raise CohortError(f"{path}, line {line}: expected an image and a mask, found {row['image'] or 'no image'}")
    own = row.get("label", "")
    if own and not own.isdecimal():
        raise CohortError(f"{path}, line {line}: expected label to be a number, found {own!r}")
    image, mask = path.parent / row["image"], path.parent / row["mask"]
    name = row.get("case") or stem(image)
    return Candidate(
        case=name,
        patient=row.get("patient") or name,
        image=image,
        mask=mask,
        series=row.get("series", ""),
        roi=row.get("roi", ""),
        labels=(int(own),) if own else labels,
        histology=row.get("histology", "").casefold(),
        collection=row.get("collection", ""),
    )


def _from_folder(source: Path, labels: tuple[int, ...], told: Mapping[str, Mapping[str, str]]) -> Listing:
    """Voxel files that differ in nothing but that one is called a mask, or lies in a folder that is.

    images/NAME.nii.gz + masks/NAME.nii.gz, NAME.nii.gz + NAME_mask.nii.gz, and NAME/ct.nii.gz + NAME/mask.nii.gz
    are all pairs of the case NAME. told: what a table says of a case, by its name.
    """
    images: dict[Path, list[Path]] = {}
    masks: dict[Path, list[Path]] = {}
    for path in _voxel_files(source):
        key, is_mask = _key(path.relative_to(source))
        (masks if is_mask else images).setdefault(key, []).append(path)
    if not images:
        found = "only masks" if masks else "none"
        raise CohortError(
            f"expected images and masks ({', '.join(READ_SUFFIXES)}) in {source}, found {found}; "
            "where names do not tell, give a CSV with the columns image and mask"
        )
    candidates, exclusions = [], []
    for key in sorted(images.keys() | masks.keys()):
        own_images, own_masks = images.get(key, []), masks.get(key, [])
        if len(own_images) == len(own_masks) == 1:
            row = told.get(key.name, {})
            one = Candidate(
                case=key.name,
                patient=row.get("patient") or key.name,
                image=own_images[0],
                mask=own_masks[0],
                labels=labels,
                histology=(row.get("histology") or "").casefold(),
                collection=row.get("collection") or "",
            )
            candidates.append(one)
            continue
        files = [*own_images, *own_masks]
        listed = ", ".join(str(path.relative_to(source)) for path in files)
        counts = f"{len(own_images)} images and {len(own_masks)} masks"
        exclusions.append(
            Exclusion(key.name, str(files[0]), f"expected one image and one mask, found {counts} ({listed})")
        )
    return Listing(tuple(candidates), tuple(exclusions))


def _key(path: Path) -> tuple[Path, bool]:
    """What the two files of a pair have in common, and whether this one is the mask."""
    name, parents = stem(path), path.parts[:-1]
    folders = [part for part in parents if not _FOLDER.fullmatch(part)]
    if _ENDS_AS_MASK.search(name):
        is_mask, rest = True, _ENDS_AS_MASK.sub("", name)
    elif _ENDS_AS_IMAGE.search(name):
        is_mask, rest = False, _ENDS_AS_IMAGE.sub("", name)
    else:
        is_mask, rest = any(_MASKS_FOLDER.fullmatch(part) for part in parents), name
    return (Path(*folders, rest) if rest else Path(*folders or [name])), is_mask


def _voxel_files(source: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if is_voxel_file(Path(name)) and name[0] != ".")
