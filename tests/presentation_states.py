"""Lines in presentation states (GSPS), as highdicom writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from clinic import Clinic
from pydicom import dcmread
from pydicom.uid import generate_uid

Ends = Sequence[Sequence[float]]
"""Of a line: (column, row) from the first pixel's corner, or positions in mm."""

LAYER = hd.pr.GraphicLayer("LESIONS", order=1)


def presentation(case: Clinic, path: Path, lines: Sequence[tuple[int, Ends]]) -> Path:
    """A presentation state as highdicom writes it, with a line on each of these slices."""
    headers = [dcmread(file) for file in sorted(case.folder.iterdir())]
    by_uid = {header.SOPInstanceUID: header for header in headers}
    annotations = []
    for k, ends in lines:
        on = by_uid[case.source.image(k).SOPInstanceUID]
        graphic = hd.pr.GraphicObject("POLYLINE", np.array(ends, np.float64), units="PIXEL")
        annotations.append(hd.pr.GraphicAnnotation([on], graphic_layer=LAYER, graphic_objects=[graphic]))
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=headers, series_instance_uid=generate_uid(), series_number=9, instance_number=1,
        sop_instance_uid=generate_uid(), manufacturer="reader", manufacturer_model_name="1", software_versions="1",
        device_serial_number="1", content_label="LINES", graphic_layers=[LAYER], graphic_annotations=annotations,
    )  # fmt: skip
    state.save_as(path)
    return path
