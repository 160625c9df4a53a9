"""A CT's DICOM series to an array of Hounsfield units, as clmsda and its peers read it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from peers.rounds import Contestant


def contestants(folder: Path) -> list[Contestant]:
    """Of a folder with one series."""
    import dicom2nifti
    import nibabel
    import SimpleITK as sitk
    from lungmask.utils import load_input_image
    from monai.transforms import LoadImage
    from pydicom import dcmread

    from clmsda.images import read_ct
    from clmsda.images.dicom_series import open_series

    files = sorted(path for path in folder.iterdir() if path.is_file())

    def only_voxels() -> object:
        series = open_series(files)
        voxels = np.empty(series.grid.shape, np.int16)
        for number, plane in enumerate(series.slices(0, len(voxels))):
            voxels[number] = plane
        return voxels

    def simple_itk() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        return sitk.GetArrayFromImage(reader.Execute())

    def lungmask() -> object:
        return sitk.GetArrayFromImage(load_input_image(str(folder), disable_tqdm=True))

    def total_segmentator() -> object:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "converted_dcm.nii.gz")
            dicom2nifti.dicom_series_to_nifti(folder, path, reorient_nifti=True)
            return np.asarray(nibabel.load(path).dataobj)

    monai = LoadImage(reader="PydicomReader", image_only=True)
    voxels = read_ct(folder).voxels.size
    named = {
        "clmsda, `read_ct`": lambda: read_ct(folder),
        "clmsda, the reader of `cohort import`": only_voxels,
        "pydicom, `dcmread` and `pixel_array`": lambda: [dcmread(path).pixel_array for path in files],
        "SimpleITK, series reader": simple_itk,
        "lungmask, `load_input_image`": lungmask,
        "MONAI, `LoadImage` by pydicom": lambda: monai(str(folder)),
        "TotalSegmentator's way: dicom2nifti, nibabel": total_segmentator,
    }
    return [Contestant(name, run, voxels=voxels) for name, run in named.items()]
