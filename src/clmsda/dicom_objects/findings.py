"""One lesion as all objects need it: its mask, its measurement, how it came about, and what it is called.

A tracking UID names the same lesion in SEG, SR and JSON. It is derived from the series and the label, so that
the same command gives the same UID once more.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clmsda.dicom_objects.errors import NothingToWrite
from clmsda.dicom_objects.side import Side, side_of
from clmsda.geometry import Volume
from clmsda.measurements import Measurement, measure
from clmsda.version import SOFTWARE, software_version

Kind = Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"]

_NAMESPACE = uuid.UUID("6f0a3c6e-0d0e-5d6b-9a52-2b1d1a4f9c11")
"""For name-based UUIDs (RFC 9562, version 5) of lesions and of this software; never to change."""


@dataclass(frozen=True)
class Algorithm:
    """How an outline came about (PS3.3 C.8.20.2, Segment Algorithm Type).

    kind: SEMIAUTOMATIC where a person prompted software, AUTOMATIC where nobody did, MANUAL where a person drew.
    name, version: of the software; empty for MANUAL. model: the weights that it ran with.
    """

    kind: Kind
    name: str = ""
    version: str = ""
    model: str = ""


BY_HAND = Algorithm("MANUAL")


def by_clmsda(model: str, *, prompted: bool) -> Algorithm:
    """This software with a model (`Model.version`), prompted by a person or not."""
    return Algorithm("SEMIAUTOMATIC" if prompted else "AUTOMATIC", SOFTWARE, software_version(), model)


@dataclass(frozen=True, eq=False)
class Finding:
    """One lesion. mask: bool on the CT's grid, not empty. side: of the lung, where it can be known. organ: it is in.

    label: its number in tables, in JSON and as the ROI's number. name: what viewers show, as the segment's label and
    the ROI's name. confidence: of the mask. probability: that it is a tumor at all, of one that nobody prompted.
    """

    label: int
    name: str
    mask: Volume
    measurement: Measurement
    tracking_id: str
    tracking_uid: str
    algorithm: Algorithm
    confidence: float | None = None
    probability: float | None = None
    side: Side | None = None
    organ: str = "lung"

    @property
    def texts(self) -> tuple[str, ...]:
        """All that may be in any script."""
        return self.name, self.tracking_id, self.algorithm.name, self.algorithm.version, self.algorithm.model


def finding(
    label: int,
    mask: Volume,
    image: Volume,
    *,
    series_uid: str,
    algorithm: Algorithm,
    measurement: Measurement | None = None,
    confidence: float | None = None,
    probability: float | None = None,
) -> Finding:
    """A finding from one lesion's mask (bool, on the grid of image).

    image: HU. measurement: made here unless it is given. confidence: of the mask; nan counts as none.
    probability: that it is a tumor.
    """
    measurement = measurement or measure(mask, image=image)
    return Finding(
        label=label,
        name=lesion_name(label),
        mask=mask,
        measurement=measurement,
        tracking_id=tracking_id(series_uid, label),
        tracking_uid=tracking_uid(series_uid, label),
        algorithm=algorithm,
        confidence=None if confidence is None or math.isnan(confidence) else confidence,
        probability=probability,
        side=side_of(mask, image, measurement.measured_slice),
    )


def findings_of(mask: Volume, image: Volume, *, series_uid: str, algorithm: Algorithm) -> tuple[Finding, ...]:
    """One finding per label of a mask. mask: labels on the grid of image; image: HU.

    Raises NothingToWrite for a mask without a label.
    """
    labels = [int(label) for label in np.unique(mask.voxels) if label]
    if not labels:
        raise NothingToWrite(f"{mask.source or 'the mask'}: no voxel is marked, so there is nothing to write")
    return tuple(
        finding(
            label,
            Volume(mask.voxels == label, mask.grid, mask.source),
            image,
            series_uid=series_uid,
            algorithm=algorithm,
        )
        for label in labels
    )


def lesion_name(label: int) -> str:
    """What a lesion is called that has no other name."""
    return f"Lesion {label}"


def tracking_id(series_uid: str, label: int) -> str:
    """What a person reads: unique, as the series' UID is part of it."""
    return f"lesion {label} of series {series_uid}"


def tracking_uid(series_uid: str, label: int) -> str:
    """A UID (2.25, from a name-based UUID) for a lesion: the same for the same series and label."""
    return uid_named(tracking_id(series_uid, label))


def uid_named(name: str) -> str:
    """The UID that a name has (PS3.5 B.2: 2.25 and a UUID as one number)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def check_findings(findings: Sequence[Finding]) -> None:
    """Raise NothingToWrite unless there is at least one finding, and each has a voxel."""
    if not findings:
        raise NothingToWrite("nothing was found, so there is nothing to write: an object without a lesion is not valid")
    for one in findings:
        if not one.mask.voxels.any():
            raise NothingToWrite(f"lesion {one.label} has no voxel: leave it out")
