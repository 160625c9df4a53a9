"""Comparing volumes by place, whatever the order of their axes."""

import numpy as np

from clmsda.geometry import Volume


def assert_same_voxels(actual: Volume, expected: Volume, *, tolerance_mm: float = 1e-3) -> None:
    """Every voxel of `expected` lies on a voxel center of `actual`, with the same value, and there are no others."""
    assert actual.voxels.size == expected.voxels.size
    points = expected.grid.to_lps(np.array(list(np.ndindex(expected.grid.shape))))
    index = np.rint(actual.grid.to_index(points)).astype(int)
    np.testing.assert_allclose(actual.grid.to_lps(index), points, atol=tolerance_mm)
    np.testing.assert_array_equal(actual.voxels[tuple(index.T)], expected.voxels.ravel())
