"""The codes in SEG, RTSTRUCT and SR: what was found, where, and how it was measured (PS3.16)."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sr.coding import Code

from clmsda.dicom_objects.side import Side

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
"""Whether a tumor is a primary, or malignant at all, a mask does not say."""
LUNG = Code("39607008", "SCT", "Lung")
SITES = {"lung": LUNG, "lymph node": Code("59441001", "SCT", "Lymph node")}
"""By `Finding.organ`; of another organ the objects say nothing."""
SIDES: dict[Side, Code] = {"right": Code("24028007", "SCT", "Right"), "left": Code("7771000", "SCT", "Left")}

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""Algorithm family, CID 7162."""

DEVICE = Code("121007", "DCM", "Device")
CHEST_CT = Code("24627-2", "LN", "CT Chest")
REPORT = Code("126000", "DCM", "Imaging Measurement Report")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
ML = Code("mL", "UCUM", "mL")
MM = Code("mm", "UCUM", "mm")
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ONE = Code("1", "UCUM", "no units")

SCHEME = "99CLMSDA"
"""Codes of our own: there are none for these in the standard."""
CONFIDENCE = Code("confidence", SCHEME, "Confidence (F1 to expect)")
PROBABILITY = Code("probability", SCHEME, "Probability (that it is a tumor)")
SIZE_GROUP = Code("size-group", SCHEME, "Size group")
SIZE_GROUPS = {
    1: Code("size-group-1", SCHEME, "1: long axis up to 30 mm"),
    2: Code("size-group-2", SCHEME, "2: long axis over 30 and up to 50 mm"),
    3: Code("size-group-3", SCHEME, "3: long axis over 50 mm"),
}


def item_of(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
