"""What a stack of slices is warned of although it can be read: slices taken in several ways, a tilt that is none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydicom import Dataset

TILT_DEGREES = 0.5

log = logging.getLogger(__name__)


def taken(header: Dataset) -> tuple[str, str, str]:
    """How a slice was taken: tube voltage, kernel, acquisition; empty where the header does not say."""
    kernel = header.get("ConvolutionKernel") or ""
    texts = [str(header.get(name) or "").strip() for name in ("KVP", "AcquisitionNumber")]
    return texts[0], kernel if isinstance(kernel, str) else "\\".join(kernel), texts[1]


def warn_of_mixture(ways: Sequence[tuple[str, str, str]], name: str) -> None:
    """Warn of a stack that was taken in several ways, which have other HU, noise or breath. ways: as `taken` has it."""
    voltages, kernels = ([*dict.fromkeys(way[n] for way in ways if way[n])] for n in (0, 1))
    if len({float(one) if _is_number(one) else one for one in voltages}) > 1:
        log.warning("%s: slices were taken with different tube voltages (KVP %s): HU differ", name, ", ".join(voltages))
    if len(kernels) > 1:
        log.warning("%s: slices were reconstructed with different kernels (%s)", name, ", ".join(kernels))
    acquisitions = [way[2] for way in ways if way[2]]
    if sum(a != b for a, b in pairwise(acquisitions)) >= len(set(acquisitions)) > 1:
        listed = ", ".join(dict.fromkeys(acquisitions))
        log.warning("%s: slices of acquisitions %s alternate: are they of one breath?", name, listed)


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text)).item()
    except ValueError:
        return False


def warn_of_tilt(header: Dataset) -> None:
    """Geometry decides: scanners and software leave the tag in what they have straightened."""
    tilt = str(header.get("GantryDetectorTilt") or "")
    if _is_number(tilt) and abs(float(tilt)) > TILT_DEGREES:
        log.warning("the gantry was tilted by %s degrees by the header, but the slices lie straight: read so", tilt)
