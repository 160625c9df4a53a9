"""Segments lung tumors of any size on chest CT: from one click to a measured 3-D mask.

    import clmsda

    ct = clmsda.read_ct("LUNG1-001")
    found = clmsda.segment(ct, clmsda.Point((82.5, -199.8, -459.5)))
    clmsda.write_mask(found.mask, "mask.nii.gz")

Names are imported when first used, so that `import clmsda` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clmsda.geometry import Grid, Volume
    from clmsda.images import read_ct, read_mask, write_mask
    from clmsda.measurements import measure
    from clmsda.models import load as load_model
    from clmsda.prompts import Box, Inside, Outside, Point, RecistLine
    from clmsda.segmentation import Segmentation, find, segment

__all__ = [
    "Box",
    "Grid",
    "Inside",
    "Outside",
    "Point",
    "RecistLine",
    "Segmentation",
    "Volume",
    "__version__",
    "find",
    "load_model",
    "measure",
    "read_ct",
    "read_mask",
    "segment",
    "write_mask",
]

_HOMES = {
    "Box": ("prompts", "Box"),
    "Grid": ("geometry", "Grid"),
    "Inside": ("prompts", "Inside"),
    "Outside": ("prompts", "Outside"),
    "Point": ("prompts", "Point"),
    "RecistLine": ("prompts", "RecistLine"),
    "Segmentation": ("segmentation", "Segmentation"),
    "Volume": ("geometry", "Volume"),
    "find": ("segmentation", "find"),
    "load_model": ("models", "load"),
    "measure": ("measurements", "measure"),
    "read_ct": ("images", "read_ct"),
    "read_mask": ("images", "read_mask"),
    "segment": ("segmentation", "segment"),
    "write_mask": ("images", "write_mask"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name == "__version__":
        value: Any = import_module("clmsda.version").software_version()
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        value = getattr(import_module(f"clmsda.{module}"), attribute)
    else:
        raise AttributeError(f"module 'clmsda' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
