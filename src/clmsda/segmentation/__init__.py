"""Segmentation: a CT, a prompt and a model become a mask, measurements and a confidence."""

from clmsda.segmentation.automatic import find
from clmsda.segmentation.lesion import Lesion, NoLesion, Segmentation
from clmsda.segmentation.prompted import correct, overlap, segment

__all__ = ["Lesion", "NoLesion", "Segmentation", "correct", "find", "overlap", "segment"]
