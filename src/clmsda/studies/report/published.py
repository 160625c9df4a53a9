"""The paper's own figures, to be printed beside ours and never mixed with them.

Lee, Lee, Kim, Hong, J X-Ray Sci Technol 2023;31(5):879-892. What is not here is not known to us: the F1 of every
variant, recall and precision of CL-MSDA-Net, and the F1 of the size group that each cohort gains most in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from clmsda.networks import VARIANTS

SOURCE = (
    "Lee J, Lee MJ, Kim BS, Hong H. Automated lung tumor segmentation robust to various tumor sizes using a "
    "consistency learning-based multi-scale dual-attention network. J X-Ray Sci Technol 2023;31(5):879-892. "
    "doi:10.3233/XST-230003"
)
ORDER = tuple(VARIANTS)
"""From the lowest to the highest F1, in both cohorts."""


@dataclass(frozen=True)
class Published:
    """One cohort of the paper. Scores in percent, means over patients; sizes in cm, as the paper gives them.

    f1, recall, precision: by variant. group_f1: by (variant, size group).
    """

    name: str
    validation: str
    patients: int
    adenocarcinoma: int
    squamous: int
    size_cm: tuple[float, float]
    mean_cm: float
    sd_cm: float
    slice_mm: str
    spacing_mm: float
    f1: Mapping[str, float]
    recall: Mapping[str, float]
    precision: Mapping[str, float]
    group_f1: Mapping[tuple[str, int], float]


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "vhsmc": Published(
            name="VHSMC",
            validation="5-fold cross-validation",
            patients=259,
            adenocarcinoma=148,
            squamous=111,
            size_cm=(0.76, 14.33),
            mean_cm=4.6,
            sd_cm=2.66,
            slice_mm="2.5 to 10",
            spacing_mm=0.52,
            f1={"U-Net": 76.58, "U-Net + MS": 77.11, "U-Net + MSDA": 77.54, "CL-MSDA-Net": 80.49},
            recall={"CL-MSDA-Net": 79.06},
            precision={"CL-MSDA-Net": 86.78},
            group_f1={("CL-MSDA-Net", 1): 81.53},
        ),
        "nsclc_radiomics": Published(
            name="NSCLC-Radiomics",
            validation="hold-out",
            patients=154,
            adenocarcinoma=39,
            squamous=115,
            size_cm=(1.36, 14.63),
            mean_cm=5.58,
            sd_cm=2.69,
            slice_mm="3",
            spacing_mm=0.977,
            f1={"U-Net": 68.04, "U-Net + MS": 68.32, "U-Net + MSDA": 68.57, "CL-MSDA-Net": 71.70},
            recall={"CL-MSDA-Net": 68.24},
            precision={"CL-MSDA-Net": 79.33},
            group_f1={("CL-MSDA-Net", 3): 72.52},
        ),
    }
)
