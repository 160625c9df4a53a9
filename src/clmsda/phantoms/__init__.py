"""Synthetic chests with a tumor: continuous shapes, drawn from a seed, shown on any grid.

phantom = sample(7)
hu, mask = render(phantom, grid)                            # exact, at any zoom
hu = acquire(hu, grid, phantom.acquisition, seed=7)         # as a scanner shows it
ct, truth = scan(phantom)                                   # a whole CT and its mask
hu, share = show(phantom, grid)                             # what a patch shows
inset = sample_inset(7, read_backgrounds("folder"))         # the tumor in a real chest: `show` takes it, too
"""

from clmsda.phantoms.acquisition import Acquisition, acquire
from clmsda.phantoms.backgrounds import Background, BackgroundError, read_backgrounds
from clmsda.phantoms.insets import Inset, sample_inset
from clmsda.phantoms.phantom import Phantom, draw_evenly, sample
from clmsda.phantoms.rendering import render
from clmsda.phantoms.scans import render_slices, scan, scan_grid, show
from clmsda.phantoms.tumors import CAVITIES

Scene = Phantom | Inset

__all__ = [
    "CAVITIES",
    "Acquisition",
    "Background",
    "BackgroundError",
    "Inset",
    "Phantom",
    "Scene",
    "acquire",
    "draw_evenly",
    "read_backgrounds",
    "render",
    "render_slices",
    "sample",
    "sample_inset",
    "scan",
    "scan_grid",
    "show",
]
