"""JSON that is none, or that holds what no lesion has: one line, whatever stands in it."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clmsda.errors import InputError
from clmsda.response import read_time_point, read_time_points, reading
from clmsda.response.timepoints import TimePointError

LESION = {"label": 1, "volume_ml": 9.0, "long_axis_mm": 28.0, "short_axis_mm": 20.0, "center_lps": [1, 2, 3]}


def text(scan: dict | None = None, **changed: object) -> str:
    return json.dumps({"lesions": [LESION | changed], "scan": scan or {}})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (text(volume_ml=float("nan")), "lesions.0.volume_ml"),
        (text(long_axis_mm=float("inf")), "lesions.0.long_axis_mm"),
        (text(volume_ml=1e300), "lesions.0.volume_ml"),
        (text(long_axis_mm=2800.0), "lesions.0.long_axis_mm"),
        (text(short_axis_mm=-1), "lesions.0.short_axis_mm"),
        (text(volume_ml="9,0"), "lesions.0.volume_ml"),
        (text(volume_ml=True), "lesions.0.volume_ml"),
        (text(volume_ml=[9]), "lesions.0.volume_ml"),
        (text(label=-1), "lesions.0.label"),
        (text(label=1.5), "lesions.0.label"),
        (text(label=10**30), "lesions.0.label"),
        (text(label=None), "lesions.0.label"),
        (text(center_lps=[1, 2]), "lesions.0.center_lps"),
        (text(center_lps=[1, 2, 1e308]), "lesions.0.center_lps"),
        (text(tracking_uid=5), "lesions.0.tracking_uid"),
        (text({"slice_thickness_mm": -1.0}), "expected slices of 0 to 100 mm, found -1 mm"),
        (text({"slice_spacing_mm": float("nan")}), "expected slices of 0 to 100 mm, found nan mm"),
        (text({"slice_thickness_mm": 1e9}), "expected slices of 0 to 100 mm"),
        (text({"date": 20240110}), "scan.date"),
        (text({"date": "soon\nand later"}), "scan.date: expected YYYY-MM-DD"),
        (text().replace("9.0", "1" + "0" * 6000), "does not hold measurements"),
        ('{"lesions": ' + "[" * 100_000, "does not hold measurements"),
        ('{"a":' * 100_000, "does not hold measurements"),
        ("[]", "does not hold measurements"),
        ("null", "does not hold measurements"),
        ('{"lesions": {}}', "lesions"),
        ('{"lesions": [null, 3, "x"]}', "lesions.0"),
        (json.dumps({"lesions": [{}] * 500}), "and 495 more"),
        ("", "does not hold measurements"),
        ("lesion,volume\n1,9.0\n", "does not hold measurements"),
    ],
)  # fmt: skip
def test_one_line_for_each(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(TimePointError) as error:
        read_time_point(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_what_a_shell_makes_of_text_is_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text().encode(encoding))
    assert read_time_point(path).lesions[0].long_axis_mm == 28.0


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80\x81" * 40, codecs.BOM_UTF16_LE + b"{"])
def test_bytes_that_are_no_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(TimePointError):
        read_time_point(tmp_path / "a.json")


def test_files_without_end_are_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 1 << 20)
    (tmp_path / "a.json").write_bytes(b" " * (1 << 20) + text().encode())
    for path in (tmp_path / "a.json", Path("/dev/zero")):
        with pytest.raises(TimePointError, match="too large for measurements"):
            read_time_point(path)


def test_axes_that_may_be_exchanged_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text(short_axis_mm=31.5))
    assert read_time_point(tmp_path / "a.json").notes == (
        "lesion 1: the short axis, 31.5 mm, is longer than the long axis, 28 mm: were they exchanged?",
    )


def test_a_volume_rounded_to_nothing_is_a_lesion_all_the_same(tmp_path: Path) -> None:
    """One small voxel has 0.000 ml, and diameters."""
    (tmp_path / "a.json").write_text(text(volume_ml=0.0, long_axis_mm=0.8, short_axis_mm=0.7))
    assert not read_time_point(tmp_path / "a.json").lesions[0].is_empty


def test_the_same_file_twice(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text())
    (tmp_path / "b.json").hardlink_to(tmp_path / "a.json")
    with pytest.raises(TimePointError, match="are the same file"):
        read_time_points([tmp_path / "a.json", tmp_path / "b.json"])


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from([*LESION, "tracking_uid", "organ"]), values, max_size=3), values,
       st.integers(0, 400), st.binary(max_size=3))  # fmt: skip
def test_anything_is_read_or_refused(tmp_path: Path, changed: dict, scan: object, at: int, damage: bytes) -> None:
    content = bytearray(json.dumps({"lesions": [LESION | changed], "scan": scan}).encode())
    content[at : at + len(damage)] = damage
    (tmp_path / "a.json").write_bytes(content)
    try:
        read_time_point(tmp_path / "a.json")
    except InputError as error:
        assert "\n" not in str(error)
