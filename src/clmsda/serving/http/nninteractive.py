"""The remote protocol of nnInteractive's clients (3D Slicer's SlicerNNInteractive, napari, MITK), with our model.

The array is (slice, row, column) on trust: neither origin nor direction is told. Each answer holds the box of the
viewer's buffer that changed. Checked against nninteractive-client 2.6.0, unchanged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import floor, prod
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Len
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import as_ct
from clmsda.images.plausibility import check_size
from clmsda.models import available
from clmsda.prompts import Outside
from clmsda.serving.http import packed
from clmsda.serving.http.answers import TooMuch
from clmsda.serving.http.foreign import Say, body, checked, guarded, worked
from clmsda.serving.http.leases import IDLE_S, LIVENESS_S, MOST, Lease, LeaseGone, Leases
from clmsda.serving.http.outlining import Outlining, box, point
from clmsda.serving.sessions import Desk, SessionError
from clmsda.version import software

PROTOCOL = "2.6.0"
"""The release of the clients that this was checked against."""
MOST_JSON = 1 << 16

_Index = Annotated[int, Ge(-(2**31)), Le(2**31)]
_Edge = Annotated[float, Ge(-(2**31)), Le(2**31)]
_Three = Len(3, 3)


@dataclass
class _Properties:
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1e6)]], _Three]


@dataclass
class _Image:
    image_properties: _Properties


@dataclass
class _Buffer:
    shape: Annotated[list[_Index], _Three]
    dtype: str


@dataclass
class _Click:
    coordinates: Annotated[list[float], _Three]
    include_interaction: bool
    run_prediction: bool = True


@dataclass
class _Bounds:
    bbox_coords: Annotated[list[Annotated[list[_Edge], Len(2, 2)]], _Three]
    include_interaction: bool
    run_prediction: bool = True


def routes(desk: Desk, *, idle_s: float = IDLE_S, liveness_s: float = LIVENESS_S, most: int = MOST) -> list[Route]:
    """The protocol's routes. idle_s, liveness_s, most: of `Leases`."""
    viewers = _Viewers(desk, Leases(desk, idle_s=idle_s, liveness_s=liveness_s, most=most))
    statuses: dict[type[Exception], int] = {LeaseGone: 410}
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/capabilities", viewers.capabilities),
        ("POST", "/claim", viewers.claim),
        ("POST", "/release", viewers.release),
        ("POST", "/heartbeat", viewers.heartbeat),
        ("GET", "/lease_status", viewers.lease_status),
        ("POST", "/set_image", viewers.set_image),
        ("POST", "/set_target_buffer", viewers.set_target_buffer),
        ("POST", "/set_do_autozoom", viewers.set_do_autozoom),
        ("POST", "/reset_interactions", viewers.reset_interactions),
        ("POST", "/add_point_interaction", viewers.add_point),
        ("POST", "/add_bbox_interaction", viewers.add_box),
        ("POST", "/add_scribble_interaction", viewers.refuse_drawing),
        ("POST", "/add_lasso_interaction", viewers.refuse_drawing),
        ("POST", "/add_initial_seg_interaction", viewers.add_initial_mask),
        ("POST", "/predict", viewers.predict),
        ("POST", "/undo", viewers.undo),
        ("POST", "/upload_image", _refuse_old),
        ("POST", "/upload_segment", _refuse_old),
    ]
    guards = [Route(path, guarded(do, statuses), methods=[method]) for method, path, do in table]
    return [Route("/healthz", _healthz, methods=["GET"]), *guards]


async def _healthz(request: Request) -> Response:
    return JSONResponse({"ok": True})


async def _refuse_old(request: Request) -> Response:
    raise InputError(
        "this viewer speaks the protocol that SlicerNNInteractive had before mid-2026; expected that of "
        "nninteractive-client 2.5 or newer: update the extension"
    )


class _Viewers:
    """Endpoints. A viewer's requests are served one at a time, those of several in turns at the worker."""

    def __init__(self, desk: Desk, leases: Leases) -> None:
        self.desk, self.leases = desk, leases
        self._reaping = False

    async def capabilities(self, request: Request) -> Response:
        return JSONResponse(
            {
                "supported_interactions": {
                    "points": True, "bbox2d": True, "bbox3d": True, "scribble": False, "lasso": False,
                },
                "channel_mapping": {},
                "num_interaction_channels": 0,
                "supports_initial_label": True,
                "supports_zero_shot_label_refinement": False,
                "preferred_scribble_thickness": [1, 1, 1],
                "interaction_decay": None,
                "patch_size": list(self.desk.model.config.patches.shape),
                "do_autozoom": True,
                "inference_session_version": PROTOCOL,
                "license": _license(self.desk.model.name),
                "supports_undo": True,
                "server": software(),
                "model": self.desk.model.version,
            }
        )  # fmt: skip

    async def claim(self, request: Request) -> Response:
        lease = self.leases.claim()
        self._reap_later()
        return JSONResponse(
            {
                "lease_token": lease.token,
                "idle_timeout_seconds": self.leases.idle_s,
                "liveness_timeout_seconds": self.leases.liveness_s,
                "max_sessions": self.leases.most,
            }
        )

    async def release(self, request: Request) -> Response:
        self.leases.release(_token(request))
        return JSONResponse({"released": True})

    async def heartbeat(self, request: Request) -> Response:
        lease = self.leases.get(_token(request))
        self.leases.alive(lease)
        return JSONResponse({"remaining_seconds": self.leases.remaining_s(lease)})

    async def lease_status(self, request: Request) -> Response:
        lease = self.leases.get(_token(request))
        remaining = self.leases.remaining_s(lease)
        return JSONResponse({"remaining_seconds": remaining, "idle_timeout_seconds": self.leases.idle_s})

    async def set_image(self, request: Request) -> Response:
        with self.leases.use(_token(request)) as lease:
            async with lease.turn:
                spacing_mm = checked(_Image, request.headers.get("x-meta", "")).image_properties.spacing
                data = await body(request, int(self.desk.most_mb * 2**20))
                shape = await run_in_threadpool(self._open, lease, data, spacing_mm)
        return JSONResponse({"original_image_shape": shape})

    def _open(self, lease: Lease, data: bytearray, spacing_mm: list[float]) -> list[int]:
        """Open the CT that a viewer sent in place of the one before; returns the array's shape."""
        shape = packed.header(data).shape
        if len(shape) != 4 or shape[0] != 1:
            raise InputError(f"expected an image of shape (1, slices, rows, columns), found {list(shape)}")
        check_size(shape, "the image")
        array = packed.unpack(data, most_bytes=int(self.desk.most_mb * 2**20))
        data.clear()
        volume = as_ct(Volume(array[0], Grid.axial(array.shape[1:], spacing_mm), "the image"))
        del array
        if lease.opened is not None:
            self.desk.close(lease.opened)
            lease.opened = lease.outlining = None
        lease.opened = self.desk.put(volume, name="of another viewer", kept=False, listed=False)
        lease.outlining = Outlining(self.desk.get(lease.opened).session)
        return list(shape)

    async def set_target_buffer(self, request: Request) -> Response:
        given = checked(_Buffer, await body(request, MOST_JSON))
        with self._image(request) as (lease, outlining):
            expected = list(outlining.session.volume.grid.shape)
            if given.shape != expected or given.dtype not in packed.DTYPES:
                error = TooMuch if prod(given.shape) > prod(expected) else InputError
                raise error(
                    f"expected a buffer of the image's shape {expected}, of type {', '.join(packed.DTYPES)}; found "
                    f"{given.shape} {given.dtype[:20]}"
                )
            async with lease.turn:
                outlining.new_buffer(np.dtype(given.dtype))
        return JSONResponse({})

    async def set_do_autozoom(self, request: Request) -> Response:
        """Nothing to set: the model finds a tumor's size by itself, always."""
        with self.leases.use(_token(request)):
            return JSONResponse({})

    async def reset_interactions(self, request: Request) -> Response:
        with self._image(request) as (lease, outlining):
            async with lease.turn:
                outlining.reset()
        return JSONResponse({})

    async def add_point(self, request: Request) -> Response:
        given = checked(_Click, await body(request, MOST_JSON))

        def work(outlining: Outlining, say: Say) -> bool:
            at = point(given.coordinates, outlining.session.volume.grid)
            said = at if given.include_interaction else Outside(at.lps_mm)
            return outlining.said(said, now=given.run_prediction, say=say)

        return await self._predicted(request, work)

    async def add_box(self, request: Request) -> Response:
        given = checked(_Bounds, await body(request, MOST_JSON))

        def work(outlining: Outlining, say: Say) -> bool:
            if not given.include_interaction:
                raise InputError("a box says where the tumor is, not where it is not: click outside of it instead")
            bounds = [[floor(edge + 0.5) for edge in pair] for pair in given.bbox_coords]  # napari's are fractions
            said = box(bounds, outlining.session.volume.grid)
            return outlining.said(said, now=given.run_prediction, say=say)

        return await self._predicted(request, work)

    async def refuse_drawing(self, request: Request) -> Response:
        self.leases.get(_token(request))
        raise InputError("this model takes points and boxes: scribbles and lassos are not supported")

    async def add_initial_mask(self, request: Request) -> Response:
        data = await body(request, int(self.desk.most_mb * 2**20))

        def work(outlining: Outlining, say: Say) -> bool:
            outlining.start(_mask(data, outlining.session.volume.grid))
            return False

        return await self._predicted(request, work)

    async def predict(self, request: Request) -> Response:
        await body(request, MOST_JSON)
        return await self._predicted(request, lambda outlining, say: outlining.predict(say))

    async def undo(self, request: Request) -> Response:
        await body(request, MOST_JSON)
        return await self._predicted(request, lambda outlining, say: outlining.undo())

    async def _predicted(self, request: Request, work: Callable[[Outlining, Say], bool]) -> Response:
        """What work did to the lesion, done by the worker; what the viewer does not show is looked for once it is sure
        that the viewer is still there."""
        with self._image(request) as (lease, outlining):
            async with lease.turn:
                ran = await worked(request, self.desk.worker, "prompt", lambda say: work(outlining, say))
                change = await run_in_threadpool(outlining.change) if ran else None
                lesion = outlining.lesion
        meta: dict[str, Any] = {"ran_prediction": ran, "bbox": None}
        if ran and lesion is not None:
            meta["warnings"] = list(lesion.now.warnings)
        content = b""
        if change is not None:
            meta |= {"bbox": change.bounds, "dtype": str(change.voxels.dtype), "shape": list(change.voxels.shape)}
            content = packed.pack(change.voxels)
        headers = {"X-Meta": json.dumps(meta, separators=(",", ":"))}
        return Response(content, media_type="application/octet-stream", headers=headers)

    @contextmanager
    def _image(self, request: Request) -> Iterator[tuple[Lease, Outlining]]:
        """The lease that a request is made under, and what it is at. Raises LeaseGone, InputError without an image."""
        with self.leases.use(_token(request)) as lease:
            if lease.opened is None or lease.outlining is None:
                raise InputError("expected an image first: send it (set_image), then prompts")
            try:
                self.desk.get(lease.opened)
            except SessionError as error:
                self.leases.release(lease.token)
                raise LeaseGone("the image was closed at the server: connect again") from error
            yield lease, lease.outlining

    def _reap_later(self) -> None:
        """Take back what dead viewers hold, although nobody asks for it."""
        if not self._reaping:
            self._reaping = True
            asyncio.get_running_loop().call_later(min(self.leases.liveness_s, self.leases.idle_s), self._reap)

    def _reap(self) -> None:
        self._reaping = False
        self.leases.reap()
        if len(self.leases):
            self._reap_later()


def _license(model: str) -> str:
    weights = "Apache-2.0" if model in available() else "of your own file: see where it comes from"
    return f"clmsda: code Apache-2.0, weights {weights}; for research use only"


def _token(request: Request) -> str | None:
    """The lease's token. Raises LeaseGone where there is none."""
    token = request.headers.get("x-lease-token")
    if not token:
        raise LeaseGone(
            "expected a lease (POST /claim), found none; viewers that know none are older than nninteractive-client "
            "2.5: update the extension"
        )
    return token


def _mask(data: bytearray, grid: Grid) -> NDArray[np.bool_]:
    """A mask that a viewer sent. Raises InputError unless it has the image's shape."""
    shape = packed.header(data).shape
    if shape != grid.shape:
        raise InputError(f"expected a mask of the image's shape {list(grid.shape)}, found {list(shape)}")
    return packed.unpack(data, most_bytes=8 * prod(grid.shape)) != 0
