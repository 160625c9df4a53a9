"""The picture: what it draws where, checked by its pixels."""

import numpy as np
import pytest

from clmsda.files import OutputError
from clmsda.geometry import Grid, GridError, Volume
from clmsda.measurements import measure
from clmsda.segmentation.preview import _letters, _planes, draw, picture

CONTOUR = (255, 183, 77)


def chest(affine_signs=(1, 1, 1), shape=(40, 64, 80), spacing_mm=(2.5, 1.4, 1.0)) -> tuple[Volume, Volume]:
    """A tumor at the patient's left, back and head side of the middle, stored in any axis direction."""
    grid = Grid.axial(shape, spacing_mm, center_mm=(0, 0, 0))
    position = grid.to_lps(np.moveaxis(np.indices(shape), 0, -1))
    inside = np.linalg.norm((position - (8, 6, 10)) / (14, 9, 12), axis=-1) <= 1
    hu = np.where(inside, 40, -850).astype(np.int16)
    hu[np.linalg.norm(position - (30, 0, 0), axis=-1) < 6] = 150
    flips = [axis for axis, sign in enumerate(affine_signs) if sign < 0]
    affine = grid.affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
        affine[:3, axis] *= -1
    stored = Grid(shape, affine)
    return Volume(np.flip(hu, flips), stored), Volume(np.flip(inside, flips), stored)


def read(path) -> np.ndarray:
    from matplotlib.image import imread

    return np.rint(imread(path)[..., :3] * 255).astype(int)


def contour_box(picture, panel) -> tuple[int, int]:
    """Width and height in pixels of the contour in one of the three panels."""
    third = picture.shape[1] // 3
    part = picture[:, panel * third : (panel + 1) * third]
    rows, columns = np.nonzero((np.abs(part - CONTOUR) < 30).all(axis=-1))
    return int(np.ptp(columns)), int(np.ptp(rows))


def test_lengths_on_the_picture_are_in_proportion(tmp_path):
    volume, mask = chest()
    draw(volume, [(1, mask, measure(mask))], tmp_path / "picture.png")
    picture = read(tmp_path / "picture.png")
    pixels_per_mm = contour_box(picture, 0)[0] / 28
    for panel, (width_mm, height_mm) in enumerate([(28, 18), (28, 24), (18, 24)]):
        width, height = contour_box(picture, panel)
        assert width == pytest.approx(width_mm * pixels_per_mm, abs=2.7 * pixels_per_mm)
        assert height == pytest.approx(height_mm * pixels_per_mm, abs=2.7 * pixels_per_mm)


def test_a_probability_stands_in_the_headline_where_there_is_one():
    volume, mask = chest()
    lesions = [(label, mask, measure(mask)) for label in (1, 2)]
    texts = [text.get_text() for text in picture(volume, lesions, {2: 0.456}).texts]
    assert [text for text in texts if "probability" in text] == [texts[-1]] and "probability 0.46" in texts[-1]


@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_the_patient_looks_the_same_however_stored(tmp_path, signs):
    for name, stored in (("one", (1, 1, 1)), ("other", signs)):
        volume, mask = chest(stored)
        draw(volume, [(1, mask, measure(mask))], tmp_path / f"{name}.png")
    one, other = (read(tmp_path / f"{name}.png") for name in ("one", "other"))
    different = (np.abs(one - other) > 40).any(axis=-1).mean()
    assert different < 0.02  # captions count slices, rows and columns the other way round


def test_planes_follow_radiological_convention():
    volume, _ = chest()
    planes = _planes(volume.grid, (1, 2, 3))
    assert [plane.name for plane in planes] == ["Axial", "Coronal", "Sagittal"]
    assert [plane.index for plane in planes] == [1, 2, 3]
    left_posterior_head = np.array([volume.grid.to_index(volume.grid.center_mm + step) for step in 10 * np.eye(3)])
    middle = volume.grid.to_index(volume.grid.center_mm)
    for plane, (right, down) in zip(planes, [("L", "P"), ("L", "F"), ("P", "F")], strict=True):
        moved = plane.to_screen(volume.grid, left_posterior_head) - plane.to_screen(volume.grid, middle)
        steps = dict(zip("LPH", moved, strict=True))
        steps["F"] = -steps["H"]
        assert steps[right] == pytest.approx([10, 0])
        assert steps[down] == pytest.approx([0, 10])


def test_oblique_grids_are_named_by_their_axes(lopsided):
    planes = _planes(lopsided.grid, (3, 5, 6))
    assert [plane.name for plane in planes] == ["Slice plane", "Row plane", "Column plane"]


@pytest.mark.parametrize(
    "direction, letters",
    [((1, 0, 0), "L"), ((-2, 0, 0), "R"), ((0, 1, 0), "P"), ((0, -1, 0.1), "A"), ((0, 0, 3), "H"), ((0, 1, -2), "FP")],
)
def test_letters(direction, letters):
    assert _letters(np.array(direction, float)) == letters


def test_every_lesion_gets_a_row_and_image_borders_are_no_obstacle(tmp_path, lopsided, labels):
    lesions = []
    for label in (1, 2, 3):
        mask = Volume(labels.voxels == label, labels.grid)
        lesions.append((label, mask, measure(mask)))
    draw(lopsided, lesions[:1], tmp_path / "one.png")
    draw(lopsided, lesions, tmp_path / "three.png")
    one, three = read(tmp_path / "one.png"), read(tmp_path / "three.png")
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] > 2.9 * one.shape[0]
    third = three.shape[0] // 3
    for row in range(3):
        assert contour_box(three[row * third : (row + 1) * third], 0)[0] > 5


def test_nothing_is_left_behind_when_it_cannot_be_written(tmp_path):
    volume, mask = chest()
    with pytest.raises(OutputError):
        draw(volume, [(1, mask, measure(mask))], tmp_path / "missing" / "picture.png")
    with pytest.raises(GridError, match="image's grid"):
        draw(chest(shape=(40, 64, 81))[0], [(1, mask, measure(mask))], tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []
