"""A picture of napari with the plugin of nnInteractive at work on a phantom, segmented by `clmsda serve`.

    python -m venv napari && napari/bin/pip install 'napari[pyqt6]' napari-nninteractive
    clmsda phantom phantom --cases 1 --seed 3 --matrix 256 && clmsda serve --no-open
    LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -s '-screen 0 1600x1000x24' napari/bin/python benchmarks/napari_picture.py \\
        phantom/images/phantom-00003.nii.gz phantom/masks/phantom-00003.nii.gz docs/images/viewer_napari.png

The plugin itself is driven, as a person would: address, Initialize, a point, undo. Prints F1 with the phantom's mask.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import napari
import nibabel
import numpy as np
from napari.layers import Layer
from qtpy.QtWidgets import QApplication
from scipy import ndimage

ADDRESS = "http://127.0.0.1:1527"
LONGEST_S = 120.0


def main(image: str, mask: str, picture: str) -> None:
    file = nibabel.load(image)
    ct, truth = (np.asarray(nibabel.load(path).dataobj).T for path in (image, mask))  # (slice, row, column)
    spacing_mm = np.array(file.header.get_zooms()[:3])[::-1]
    depth = ndimage.distance_transform_edt(truth > 0, sampling=spacing_mm)
    middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape))

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    viewer.add_image(ct, name="chest CT", scale=spacing_mm, contrast_limits=(-1350, 150), colormap="gray")
    _, plugin = viewer.window.add_plugin_dock_widget("napari-nninteractive")
    plugin.server_url_edit.setText(ADDRESS)
    plugin.on_remote_settings_changed()
    plugin.on_init_button()
    wait(lambda: plugin.label_layer_name in viewer.layers and plugin.interaction_button.buttons[0].isEnabled())
    wait(lambda: False, 5)
    viewer.dims.set_current_step(0, int(middle[0]))
    plugin.interaction_button.buttons[0].click()
    wait(lambda: plugin.point_layer_name in viewer.layers)
    points: Layer = viewer.layers[plugin.point_layer_name]
    points.add(middle.astype(float))
    wait(lambda: bool(plugin._data_result.any()))
    found = plugin._data_result > 0
    print(f"F1 {2 * (found & (truth > 0)).sum() / (found.sum() + (truth > 0).sum()):.3f}")
    viewer.camera.zoom *= 1.6
    viewer.camera.center = tuple(middle * spacing_mm)
    wait(lambda: False, 3)
    viewer.screenshot(picture, canvas_only=False, flash=False)
    plugin.on_undo()
    print(f"{int((plugin._data_result > 0).sum())} voxels after undo")
    viewer.close()


def wait(done: Callable[[], bool], seconds: float = LONGEST_S) -> None:
    """Let the window live until something is so, or for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not done():
        QApplication.instance().processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
