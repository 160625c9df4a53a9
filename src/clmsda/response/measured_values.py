"""One measurement of a DICOM SR (a content item NUM, PS3.3 C.18.1), in mm or ml, or why it is none."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code

from clmsda.response.timepoints import MOST_ML, MOST_MM

_LENGTHS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3}
_VOLUMES = {"mm3": 1e-3, "cm3": 1.0, "ml": 1.0, "dl": 100.0, "l": 1000.0}
_OLD_SNOMED = ("SNM3", "99SDM")
"""Earlier names of the coding scheme SRT (PS3.16, section 8.1)."""
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # PS3.5, section 6.2: DS
_SAME = 1e-3
"""Two statements of one value may differ by so much, as a fraction, through rounding."""


@dataclass(frozen=True)
class Quantity:
    """What a response takes of a report. name: the attribute of a Lesion. units: UCUM in lower case, and the factor."""

    name: str
    words: str
    code: Code
    units: dict[str, float]
    most: float
    unit: str


QUANTITIES = (
    Quantity("volume_ml", "volume", Code("118565006", "SCT", "Volume"), _VOLUMES, MOST_ML, "ml"),
    Quantity("long_axis_mm", "long axis", Code("103339001", "SCT", "Long Axis"), _LENGTHS, MOST_MM, "mm"),
    Quantity("short_axis_mm", "short axis", Code("103340004", "SCT", "Short Axis"), _LENGTHS, MOST_MM, "mm"),
)


class Unusable(Exception):
    """A measurement that cannot be taken as it stands; the message says why."""


def code_of(item: Dataset, keyword: str) -> Code:
    """The code in a code sequence of an item; one without a value where there is none.

    SNOMED's old and new codes of one concept are equal.
    """
    first = (item.get(keyword) or [Dataset()])[0]
    value = first.get("CodeValue") or first.get("LongCodeValue") or first.get("URNCodeValue")
    scheme = str(first.get("CodingSchemeDesignator") or "")
    return Code(str(value or ""), "SRT" if scheme in _OLD_SNOMED else scheme, str(first.get("CodeMeaning") or ""))


def quantity_of(item: Dataset) -> Quantity | None:
    """Which quantity an item measures; None for others. Raises Unusable for one that only looks like one of ours."""
    concept = code_of(item, "ConceptNameCodeSequence")
    for quantity in QUANTITIES:
        if concept == quantity.code:
            return quantity
    for quantity in QUANTITIES:
        if concept.value == quantity.code.value or words_of(concept.meaning).lower() == quantity.words:
            found = f"{words_of(concept.value)!r} of {words_of(concept.scheme_designator) or 'no scheme'}"
            raise Unusable(f"{quantity.words}: its code is {found}, not {quantity.code.value} of SCT")
    return None


def value_of(item: Dataset, quantity: Quantity) -> float:
    """The value in mm or ml. Raises Unusable."""
    try:
        return _value(item, quantity)
    except Unusable as error:
        raise Unusable(f"{quantity.words}: {error}") from None


def _value(item: Dataset, quantity: Quantity) -> float:
    measured, *others = item.get("MeasuredValueSequence") or [Dataset()]
    if others:
        raise Unusable("expected one value, found several")
    unit = code_of(measured, "MeasurementUnitsCodeSequence").value
    number = _number(measured)
    if number is None:
        raise Unusable("there is no value")
    if not unit:
        raise Unusable(f"{number:g} has no unit")
    factor = quantity.units.get(unit.lower())
    if factor is None:
        raise Unusable(f"expected a value in {', '.join(quantity.units)}, found the unit {words_of(unit)!r}")
    value = number * factor
    if not 0 <= value <= quantity.most:
        raise Unusable(f"expected 0 to {quantity.most:g} {quantity.unit}, found {number:g} {words_of(unit)}")
    return value


def is_same(first: float, second: float) -> bool:
    """Whether two values may be one, written twice."""
    return math.isclose(first, second, rel_tol=_SAME, abs_tol=0.01)


def words_of(text: object) -> str:
    """What a report says, short and in one line, as part of a message."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())[:40]


def _number(measured: Dataset) -> float | None:
    """NumericValue (text, VR DS) or the same as FloatingPointValue. Raises Unusable."""
    texts = measured.get_item("NumericValue")
    exact = measured.get("FloatingPointValue")
    if texts is None or texts.value in (None, b"", ""):
        return None if exact is None else _float(exact)
    raw = texts.value
    number = _float(raw.decode("ascii", "replace").strip(" \0") if isinstance(raw, bytes) else raw)
    if exact is not None and not is_same(number, _float(exact)):
        raise Unusable(f"two values contradict each other, {number:g} and {_float(exact):g}")
    return number if exact is None else _float(exact)


def _float(value: object) -> float:
    if not _DECIMAL.fullmatch(str(value)):
        hint = ", with a comma where DICOM has a point" * ("," in str(value))
        raise Unusable(f"expected a number, found {words_of(value)!r}{hint}")
    return float(str(value))
