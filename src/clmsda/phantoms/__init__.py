"""Synthetic chests with a tumor: continuous shapes, drawn from a seed, shown on any grid.

phantom = sample(7)
hu, mask = render(phantom, grid)                            # exact, at any zoom
hu = acquire(hu, grid, phantom.acquisition, seed=7)         # as a scanner shows it
ct, truth = scan(phantom)                                   # a whole CT and its mask
"""

from clmsda.phantoms.acquisition import Acquisition, acquire
from clmsda.phantoms.phantom import Phantom, sample
from clmsda.phantoms.rendering import render
from clmsda.phantoms.scans import render_slices, scan, scan_grid

__all__ = ["Acquisition", "Phantom", "acquire", "render", "render_slices", "sample", "scan", "scan_grid"]
