"""Data sets of the Medical Segmentation Decathlon and of nnU-Net: dataset.json beside imagesTr and labelsTr.

Both say what their labels mean, but not which cases are of one patient: each case counts as a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from clmsda.cohorts.candidates import Candidate, Exclusion, Listing
from clmsda.cohorts.cohort import CohortError
from clmsda.images.voxel_files import READ_SUFFIXES

DESCRIPTION = "dataset.json"
TUMOR_WORDS = ("cancer", "gtv", "lesion", "mass", "neoplasm", "nodule", "tumor", "tumour")
Content = TypeVar("Content")


@dataclass(frozen=True)
class _Pair:
    image: str
    label: str


@dataclass(frozen=True)
class _Decathlon:
    """labels: name by value."""

    training: list[_Pair]
    labels: dict[int, str]
    test: list[str | dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _NnUNet:
    """labels: value by name, or several values for a region. The name of channel n by n as text."""

    labels: dict[str, int | list[int]]
    file_ending: str
    channel_names: dict[NonNegativeInt, str]


def msd(source: Path | str, label: str = "") -> Listing:
    """The training cases of a Decathlon task (and of nnU-Net's first version).

    label: name or number of the label that is tumor, where the names do not tell.
    Raises CohortError for a dataset.json that is missing, damaged or of another kind.
    """
    source = Path(source)
    content = _read(source, _Decathlon)
    labels = _tumor_labels({name: [value] for value, name in content.labels.items()}, label, source)
    candidates = []
    for pair in content.training:
        image, mask = source / pair.image, source / pair.label
        name = stem(image)
        candidates.append(Candidate(name, name, image, mask, labels=labels))
    listed = {candidate.image.name for candidate in candidates}
    tests = [entry if isinstance(entry, str) else entry.get("image", "") for entry in content.test]
    exclusions = [
        Exclusion(stem(Path(path)), str(source / path), "of the test part, which comes without masks") for path in tests
    ]
    exclusions += [
        Exclusion(stem(path), str(path), f"not among the training cases of {DESCRIPTION}")
        for path in _files(source / "imagesTr")
        if path.name not in listed
    ]
    return Listing(tuple(candidates), tuple(exclusions))


def nnunet(source: Path | str, label: str = "") -> Listing:
    """The training cases of an nnU-Net data set (its second version): imagesTr/NAME_0000, labelsTr/NAME.

    Of several channels the one that is called CT is read, else the first.
    Raises CohortError as `msd`, and for files of an ending that is no volume's.
    """
    source = Path(source)
    content = _read(source, _NnUNet)
    ending = content.file_ending
    if ending.lower() not in READ_SUFFIXES:
        raise CohortError(
            f"{source / DESCRIPTION}: expected file_ending to be one of {', '.join(READ_SUFFIXES)}, found {ending!r}"
        )
    labels = {name: values if isinstance(values, list) else [values] for name, values in content.labels.items()}
    tumor = _tumor_labels(labels, label, source)
    channels = [number for number, name in content.channel_names.items() if name.casefold() == "ct"]
    channel = f"_{channels[0] if channels else 0:04d}{ending}"
    images = {p.name.removesuffix(channel): p for p in _files(source / "imagesTr") if p.name.endswith(channel)}
    masks = {p.name.removesuffix(ending): p for p in _files(source / "labelsTr") if p.name.endswith(ending)}
    candidates = [
        Candidate(name, name, images[name], masks[name], labels=tumor) for name in sorted(images.keys() & masks.keys())
    ]
    alone = [(name, images[name], "no mask in labelsTr") for name in images.keys() - masks.keys()]
    alone += [(name, masks[name], f"no image {name}{channel} in imagesTr") for name in masks.keys() - images.keys()]
    return Listing(tuple(candidates), tuple(Exclusion(name, str(path), why) for name, path, why in sorted(alone)))


def _read(source: Path, kind: type[Content]) -> Content:
    path = source / DESCRIPTION
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise CohortError(f"cannot read {path}: {error.strerror}; give the folder that holds {DESCRIPTION}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:3])
        other = "nnunet" if kind is _Decathlon else "msd"
        raise CohortError(f"{path} is not as expected: {problems}; is it of kind {other}?") from error


def _tumor_labels(labels: dict[str, list[int]], wanted: str, source: Path) -> tuple[int, ...]:
    """The values that are tumor: of the label that is wanted, or the only one that its name calls so."""
    foreground = {name: tuple(values) for name, values in labels.items() if any(values)}
    if wanted:
        found = [v for name, v in foreground.items() if name.casefold() == wanted.casefold() or v == _number(wanted)]
    else:
        named = [v for name, v in foreground.items() if any(word in name.casefold() for word in TUMOR_WORDS)]
        found = named if len(foreground) > 1 else list(foreground.values())
    if len(found) != 1:
        listed = ", ".join(f"{name} = {' '.join(map(str, values))}" for name, values in foreground.items()) or "none"
        what = f"a label {wanted}" if wanted else "one label that is tumor"
        raise CohortError(f"{source / DESCRIPTION}: expected {what}, found {listed}: choose with --label NAME")
    return found[0]


def _number(text: str) -> tuple[int, ...]:
    return (int(text),) if text.isdecimal() else ()


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder, in order; hidden ones are what other systems left there."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def stem(path: Path) -> str:
    """The name of a voxel file without its suffix, which may have two parts."""
    suffix = next((suffix for suffix in READ_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]
