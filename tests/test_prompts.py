"""Prompts: read in every frame, refused where no tumor can be."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clmsda.geometry import Grid, Volume
from clmsda.prompts import Box, Point, PromptError, RecistLine, check_in_image, check_inside, parse

GRID = Grid.axial((60, 128, 128), (2.5, 2.5, 2.5), origin_mm=(-100, -250, -500))


@pytest.fixture(scope="module")
def chest() -> Volume:
    """A body with two lungs, a trachea and a tumor with a cavity, on a couch, with a scanner's noise."""
    noise = np.random.default_rng(5).normal(0, 25, GRID.shape)
    k, row, column = np.indices(GRID.shape)
    hu = np.full(GRID.shape, -1000.0)
    hu[((row - 60) / 45) ** 2 + ((column - 64) / 58) ** 2 < 1] = 40
    for center in (34, 94):
        hu[((row - 60) / 32) ** 2 + ((column - center) / 22) ** 2 < 1] = -870
    hu[((row - 45) / 4) ** 2 + ((column - 64) / 4) ** 2 < 1] = -1000
    tumor = np.hypot(np.hypot(row - 70, column - 34), k - 30)
    hu[tumor < 8] = 30
    hu[tumor < 4] = -1000
    hu[np.hypot(np.hypot(row - 50, column - 94), k - 30) < 5] = -650
    hu[:, 112:115, 10:118] = -300
    return Volume(np.clip(hu + noise, -1024, 3071).astype(np.int16), GRID)


def at(column: float, row: float, k: float) -> tuple[float, float, float]:
    x, y, z = GRID.to_lps((k, row, column))
    return (float(x), float(y), float(z))


@pytest.mark.parametrize(
    "place",
    [(40, 70, 30), (34, 70, 30), (94, 50, 30), (100, 50, 30), (94, 75, 10), (64, 90, 0), (64, 80, 59)],
    ids=["tumor", "its cavity", "ground glass", "beside it", "lung", "first slice", "last slice"],
)
def test_points_in_tissue_pass(chest, place):
    check_inside(Point(at(*place)), chest)


@pytest.mark.parametrize(
    "place, reason",
    [
        ((64, 45, 30), r"lies in air \(mean -\d+ HU\)"),
        ((64, 45, 0), "lies in air"),
        ((3, 3, 30), "outside the body"),
        ((64, 108, 30), "outside the body"),
        ((64, 113, 30), "outside the body"),
        ((64, 60, 61), "within the image"),
    ],
    ids=["trachea", "trachea in the first slice", "corner", "above the couch", "couch", "above the image"],
)
def test_points_elsewhere_are_refused(chest, place, reason):
    with pytest.raises(PromptError, match=reason):
        check_inside(Point(at(*place)), chest)


def test_lines_and_boxes_may_cross_air_but_not_lie_in_it(chest):
    check_inside(RecistLine(at(58, 45, 30), at(76, 45, 30)), chest)
    check_inside(Box(at(56, 38, 25), at(72, 52, 35)), chest)
    with pytest.raises(PromptError, match="a RECIST line must lie on tissue"):
        check_inside(RecistLine(at(62, 45, 30), at(66, 45, 30)), chest)
    with pytest.raises(PromptError, match="a box must lie on tissue"):
        check_inside(Box(at(63, 44, 28), at(65, 46, 32)), chest)
    with pytest.raises(PromptError, match="within the image"):
        check_inside(RecistLine(at(64, 45, 30), at(64, 300, 30)), chest)


def test_lung_at_the_edge_of_a_cropped_image_is_inside_the_body(chest):
    cropped = chest.crop((10, 30, 20), (50, 100, 50))
    check_inside(Point(at(25, 60, 40)), cropped)
    check_inside(Point(at(21, 60, 40)), cropped)


def test_an_image_of_air_has_no_body():
    air = Volume(np.full((4, 20, 20), -1000, np.int16), Grid.axial((4, 20, 20), (3, 1, 1)))
    with pytest.raises(PromptError, match="outside the body"):
        check_inside(Point((10, 10, 6)), air)


def test_a_whole_ct_is_checked_quickly():
    grid = Grid.axial((134, 512, 512), (3.0, 0.98, 0.98), center_mm=(0, 0, 0))
    voxels = np.full(grid.shape, -1000, np.int16)
    voxels[:, 100:400, 50:450] = 0
    voxels[:, 245:265, 245:265] = -1000
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        with pytest.raises(PromptError, match="lies in air"):
            check_inside(Point((0, 0, 0)), Volume(voxels, grid))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("frame, text", [("lps", "12.5,-60,-450"), ("ras", "-12.5, 60, -450"), ("index", "45,76,20")])
def test_a_point_in_every_frame(frame, text):
    prompt = parse(text, "point", frame, GRID)
    assert prompt == Point((12.5, -60.0, -450.0))
    assert prompt.center_mm == (12.5, -60.0, -450.0)
    assert prompt.size_mm is None


def test_a_recist_line_carries_center_and_size():
    line = parse("10,20,-400,13,24,-400", "recist", "lps", GRID)
    assert line == RecistLine((10, 20, -400), (13, 24, -400))
    assert line.center_mm == (11.5, 22.0, -400.0)
    assert line.size_mm == pytest.approx(5.0)


def test_a_box_is_ordered_and_sized_in_the_plane():
    box = parse("30,-20,-400,10,20,-490", "box", "lps", GRID)
    assert (box.lower_mm, box.upper_mm) == ((10, -20, -490), (30, 20, -400))
    assert box.center_mm == (20.0, 0.0, -445.0)
    assert box.size_mm == 40.0
    assert parse("-30,20,-400,-10,-20,-490", "box", "ras", GRID) == box
    flat = parse("10,-20,-400,30,20,-400", "box", "lps", GRID)
    assert flat.size_mm == 40.0


def test_a_box_in_voxels_of_an_oblique_grid_is_inside_its_box_in_mm(lopsided):
    box = parse("2,3,1,9,8,5", "box", "index", lopsided.grid)
    for k, row, column in [(1, 3, 2), (5, 8, 9), (1, 8, 2), (5, 3, 9)]:
        corner = lopsided.grid.to_lps((k, row, column))
        assert (corner >= np.array(box.lower_mm) - 1e-9).all()
        assert (corner <= np.array(box.upper_mm) + 1e-9).all()
    assert box.center_mm == pytest.approx(lopsided.grid.to_lps((3, 5.5, 5.5)))


@given(st.tuples(*[st.integers(0, n - 1) for n in (128, 128, 60)]))
def test_frames_agree(index):
    column, row, k = index
    x, y, z = GRID.to_lps((k, row, column))
    expected = parse(f"{column},{row},{k}", "point", "index", GRID)
    assert parse(f"{x!r},{y!r},{z!r}".replace("np.float64(", "").replace(")", ""), "point", "lps", GRID) == expected
    assert parse(f"{-x:.17g},{-y:.17g},{z:.17g}", "point", "ras", GRID) == expected


@pytest.mark.parametrize(
    "text, kind, frame, reason",
    [
        ("1,2", "point", "lps", "needs 3 numbers X,Y,Z, found 2"),
        ("1,2,3", "recist", "lps", "needs 6 numbers X1,Y1,Z1,X2,Y2,Z2, found 3"),
        ("1,2,x", "point", "lps", "found '1,2,x'"),
        ("", "point", "lps", "found ''"),
        ("1,nan,3", "point", "lps", "finite"),
        ("1,inf,3", "point", "lps", "finite"),
        ("1,2,-400,1,2,-400", "recist", "lps", "two different ends"),
        ("1,2,-400,1,2,-400", "box", "lps", "a box needs a size"),
        ("1,2,-400,1,9,-410", "box", "lps", "found 0 x 7 x 10 mm"),
        ("1,2,-400", "sphere", "lps", "kind"),
        ("1,2,-400", "point", "xyz", "lps, ras or index"),
    ],
)
def test_bad_text_is_refused(text, kind, frame, reason):
    with pytest.raises(PromptError, match=reason) as caught:
        parse(text, kind, frame, GRID)
    assert "\n" not in str(caught.value)


def test_constructors_refuse_what_is_no_position():
    with pytest.raises(PromptError, match="three finite numbers"):
        Point((1.0, 2.0))
    with pytest.raises(PromptError, match="three finite numbers"):
        Box((0, 0, 0), (1, float("nan"), 1))


@pytest.mark.parametrize(
    "text, frame, hint",
    [
        ("-60,200,-450", "lps", "--frame ras"),
        ("60,-200,-450", "ras", "--frame lps"),
        ("12,70,30", "lps", "--frame index"),
        ("60,-200,-450", "index", "--frame lps"),
    ],
)
def test_a_point_in_the_wrong_frame_gets_a_hint(text, frame, hint):
    with pytest.raises(PromptError, match=r"the image spans x -101.2 to 218.8, y .*it would lie inside") as caught:
        parse(text, "point", frame, GRID)
    assert str(caught.value).endswith(hint)


def test_no_hint_where_no_frame_fits():
    with pytest.raises(PromptError) as caught:
        check_in_image(Point((0.0, 0.0, 900.0)), GRID)
    assert "--frame" not in str(caught.value)


@pytest.mark.parametrize(
    "folder, point",
    [
        ("nsclc-radiomics/NSCLC-Radiomics/LUNG1-001", (82.5, -199.8, -459.5)),
        ("ibsi-ct-phantom/dicom", (-75.7, 22.0, -31.4)),
    ],
)
def test_real_tumors_pass(shared_data, folder, point):
    from clmsda.images import read_ct

    check_inside(Point(point), read_ct(shared_data / folder))


def test_real_lung_passes_and_air_does_not(shared_data):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(shared_data / "lidc-idri/LIDC-IDRI-0001/ct.nii.gz"))
    voxels = sitk.GetArrayFromImage(image).astype(np.int16)
    grid = Grid.axial(voxels.shape, image.GetSpacing()[::-1], origin_mm=image.GetOrigin())
    ct = Volume(voxels, grid)
    check_inside(Point((55.5, 85.6, -117.5)), ct)
    check_inside(Point((40.0, 70.0, -117.5)), ct)  # lung near the tumor
    with pytest.raises(PromptError, match="outside the body"):
        check_inside(Point(tuple(grid.to_lps((40, 5, 5)))), ct)
    with pytest.raises(PromptError, match="outside the body"):
        check_inside(Point(tuple(grid.to_lps((40, 490, 256)))), ct)
