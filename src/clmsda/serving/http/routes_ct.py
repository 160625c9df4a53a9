"""One CT as it is: its voxels, its lesions, their masks: /api/ct/{ct}, volume.nii, mask/{step}."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clmsda.geometry import place
from clmsda.images.nifti_bytes import nifti_bytes
from clmsda.serving.http.answers import Answer
from clmsda.serving.http.served import opened_in
from clmsda.serving.sessions import Lesion, Opened

CHUNK = 1 << 20


def routes() -> list[Route]:
    return [
        Route("/ct/{ct}", _session),
        Route("/ct/{ct}/volume.nii", _volume),
        Route("/ct/{ct}/mask/{step}", _mask),
    ]


async def _session(request: Request) -> Response:
    return Answer(session_json(request.path_params["ct"], opened_in(request)))


def session_json(key: str, opened: Opened) -> dict[str, Any]:
    """A CT and its lesions; positions in LPS mm, boxes in voxels (slice, row, column)."""
    session = opened.session
    at, revision = session.revision
    grid = session.volume.grid
    return {
        "id": key,
        "name": opened.name,
        "warnings": list(opened.warnings),
        "grid": {"shape": list(grid.shape), "affine_lps": grid.affine.tolist()},
        "revision": f"{at}-{revision:x}",
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
        "unsaved": session.unsaved,
        "lesions": [_lesion(one, opened) for one in session.lesions],
    }


def _lesion(lesion: Lesion, opened: Opened) -> dict[str, Any]:
    part = lesion.now.mask.grid
    lower = [one.start for one in place(part, opened.session.volume.grid)]
    return lesion.to_json() | {"step": lesion.now.uid, "box": {"lower": lower, "shape": list(part.shape)}}


async def _volume(request: Request) -> Response:
    """NIfTI-1, int16 HU, as it lies in memory: a client that reads slowly holds one piece of it at a time."""
    header, voxels = nifti_bytes(opened_in(request).session.volume)

    async def pieces() -> AsyncIterator[bytes]:
        yield header
        for start in range(0, len(voxels), CHUNK):
            yield bytes(voxels[start : start + CHUNK])

    length = {"Content-Length": str(len(header) + len(voxels))}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=length)


async def _mask(request: Request) -> Response:
    """The box of a step as bytes, 1 where the lesion is; slices first, columns last."""
    mask = opened_in(request).session.step(request.path_params["step"]).mask
    return Response(np.ascontiguousarray(mask.voxels, np.uint8).tobytes(), media_type="application/octet-stream")
