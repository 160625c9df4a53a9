"""MONAI Label's protocol, as 3D Slicer's MONAILabel module speaks it, with our model as its one deepgrow model.

Checked against the client of monailabel 0.8.5, unchanged. What this server does not do (training, scoring, batches) is
refused by name. What is sent goes into a private folder; no name of a viewer's becomes a path.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from clmsda.images.archives import MOST_FILES
from clmsda.serving.http.access import Access
from clmsda.serving.http.answers import Answer, Nothing
from clmsda.serving.http.bodies import BadRequest, chunks, number
from clmsda.serving.http.datastore import FINAL, SESSION_S, Datastore, Image, suffix_of
from clmsda.serving.http.foreign import body, guarded, refusal, worked
from clmsda.serving.http.forms import Form
from clmsda.serving.http.inference import MODEL, infer, nifti
from clmsda.serving.http.served import Served
from clmsda.serving.http.uploads import check_whole
from clmsda.version import software_version

LABELS = ("tumor",)
STRATEGIES = {"first": "the first image without a label", "random": "any image without a label"}
MOST_LOGIN = 1 << 12

_NOT_DONE = {
    "train": "this server does not train: see clmsda train",
    "scoring": "this server does not score: see clmsda study and clmsda measure",
    "batch/infer": "this server segments where it is clicked, not images in batches: see clmsda segment",
    "logs": "this server shows no log: it speaks in its terminal",
    "proxy/dicom": "this server hands no PACS on to other viewers: open a series of it in the page",
    "model": "weights are not handed out here: they come with clmsda",
    "datastore/dataset": "images are not handed out all at once: ask for one",
}  # fmt: skip


def routes(served: Served, access: Access) -> list[Route]:
    """The protocol's routes. access: says whether viewers must log in; their password is the key."""
    viewers = _Viewers(served, access)
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/info/", viewers.info),
        ("GET", "/auth/", viewers.login_needed),
        ("POST", "/auth/token", viewers.login),
        ("GET", "/auth/token/valid", viewers.logged_in),
        ("PUT", "/session/", viewers.begin),
        ("GET", "/session/{key}", viewers.session),
        ("DELETE", "/session/{key}", viewers.end),
        ("POST", f"/infer/{MODEL}", viewers.infer),
        ("POST", "/infer/{model:path}", viewers.refuse_model),
        ("GET", "/datastore/", viewers.datastore),
        ("PUT", "/datastore/", viewers.put_image),
        ("PUT", "/datastore/image", viewers.put_image),
        ("DELETE", "/datastore/", viewers.remove_image),
        ("DELETE", "/datastore/image", viewers.remove_image),
        ("GET", "/datastore/image", viewers.image),
        ("GET", "/datastore/image/info", viewers.image_info),
        ("PUT", "/datastore/label", viewers.put_label),
        ("GET", "/datastore/label", viewers.label),
        ("DELETE", "/datastore/label", viewers.remove_label),
        ("GET", "/datastore/label/info", viewers.label_info),
        ("POST", "/activelearning/{strategy}", viewers.next_image),
    ]
    found = [Route(path, guarded(do), methods=[method]) for method, path, do in table]
    for path, why in _NOT_DONE.items():
        for end in ("/", "/{more:path}"):
            found.append(Route(f"/{path}{end}", _refusing(why), methods=["GET", "POST", "PUT", "DELETE"]))
    return found


def _refusing(why: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        return refusal(404, why)

    return refuse


class _Viewers:
    """Endpoints. Files are read and written by the server's readers, lesions outlined by its worker."""

    def __init__(self, served: Served, access: Access) -> None:
        self.served, self.access = served, access
        self.store = Datastore(served)

    async def info(self, request: Request) -> Response:
        model = self.served.desk.model
        described = {
            "type": "deepgrow",
            "labels": list(LABELS),
            "dimension": 3,
            "description": f"lung tumors from clicks, {model.version}; for research use only",
            "config": {},
        }
        strategies = {name: {"description": text, "config": {}} for name, text in STRATEGIES.items()}
        return Answer(
            {
                "name": "clmsda",
                "description": "Segments lung tumors on chest CT. For research use only. Not for clinical decisions.",
                "version": software_version(),
                "labels": list(LABELS),
                "models": {MODEL: described},
                "trainers": {},
                "strategies": strategies,
                "scoring": {},
                "train_stats": {},
                "datastore": self._status(),
            }
        )

    async def login_needed(self, request: Request) -> Response:
        return Answer({"enabled": self.access.keyed, "client_id": "", "realm": ""})

    async def login(self, request: Request) -> Response:
        """The key for the key, as the viewer's password; any user's name will do."""
        form = parse_qs(bytes(await body(request, MOST_LOGIN)).decode("utf8", "replace"))
        if self.access.keyed and not self.access.opens(form.get("password", [""])[0]):
            return refusal(401, "the password is wrong: it is the key that the server was started with (--key)")
        return Answer({"access_token": self.access.key if self.access.keyed else "", "token_type": "bearer"})

    async def logged_in(self, request: Request) -> Response:
        return Answer({"username": "anybody", "email": None, "name": None, "roles": []})

    async def begin(self, request: Request) -> Response:
        asked = request.query_params.get("expiry", "")
        lasts_s = float(number(asked, "expiry")) if asked else SESSION_S
        async with self._form(request) as (folder, form):
            path = form.paths[0] if len(form.paths) == 1 else form.folder
            key = await run_in_threadpool(self.store.begin, folder, path, lasts_s)
        asyncio.get_running_loop().call_later(SESSION_S + 60, self.store.forget)
        return Answer({"session_id": key, "session_info": _told(key, self.store.session(key))})

    async def session(self, request: Request) -> Response:
        key = request.path_params["key"]
        image = self.store.session(key)
        if request.query_params.get("image", "").lower() in ("true", "1"):
            return await self._image_file(request, image, "image")
        return Answer(_told(key, image))

    async def end(self, request: Request) -> Response:
        key = request.path_params["key"]
        told = _told(key, self.store.session(key))
        await run_in_threadpool(self.store.end, key)
        return Answer(told)

    async def infer(self, request: Request) -> Response:
        session, key = (request.query_params.get(name, "") for name in ("session_id", "image"))
        async with self._form(request, least=0, keep=False) as (folder, form):
            sent = form.file("file")
            if session:
                image = self.store.session(session)
            elif sent is not None:
                image = Image(sent, folder=folder)
            elif key:
                image = self.store.image(key)
            else:
                raise BadRequest("expected an image to look at: a session (session_id), an image's name, or a file")
            try:
                return await infer(request, self.store, image, form)
            finally:
                if image.folder == folder and image.opened is not None:
                    self.served.desk.close(image.opened)

    async def refuse_model(self, request: Request) -> Response:
        raise Nothing(f"there is one model here, {MODEL}: fetch what the server offers (/info/) anew")

    async def datastore(self, request: Request) -> Response:
        output = request.query_params.get("output", "stats")
        images = self.store.images()
        if output == "all":
            objects = {key: _listed(image) for key, image in images.items()}
            return Answer(
                {"name": "clmsda", "description": "what was given to the server, and sent", "objects": objects}
            )
        if output == "train":
            return Answer([{"image": key, "label": key} for key, image in images.items() if FINAL in image.labels])
        return Answer(self._status())

    async def put_image(self, request: Request) -> Response:
        async with self._form(request) as (folder, form):
            path = form.paths[0] if len(form.paths) == 1 else form.folder
            key = await run_in_threadpool(self.store.keep, request.query_params.get("image", ""), folder, path)
        return Answer({"image": key})

    async def remove_image(self, request: Request) -> Response:
        await run_in_threadpool(self.store.remove, request.query_params.get("id", ""))
        return Answer({})

    async def image(self, request: Request) -> Response:
        key = request.query_params.get("image", "")
        return await self._image_file(request, self.store.image(key), key)

    async def image_info(self, request: Request) -> Response:
        return Answer(_listed(self.store.image(request.query_params.get("image", "")))["image"]["info"])

    async def put_label(self, request: Request) -> Response:
        key = request.query_params.get("image", "")
        tag = request.query_params.get("tag", "") or FINAL
        async with self._form(request, keep=False) as (_, form):
            sent = form.file("label")
            if sent is None:
                raise BadRequest("expected the label as the form's file called label")
            path = await worked(request, self.served.files, "label", lambda say: self.store.save_label(key, tag, sent))
        kept = f"in {path.name}, in the folder for results"
        if self.served.out is None:
            kept = "only until the server ends: start clmsda serve with --out FOLDER to keep it"
        return Answer({"image": key, "label": key, "kept": kept})

    async def label(self, request: Request) -> Response:
        key, tag = request.query_params.get("label", "") or request.query_params.get("image", ""), self._tag(request)
        path = await run_in_threadpool(self.store.label, key, tag)
        return FileResponse(path, media_type="application/gzip", filename=path.name)

    async def label_info(self, request: Request) -> Response:
        self.store.label(request.query_params.get("label", ""), self._tag(request))
        return Answer({})

    async def remove_label(self, request: Request) -> Response:
        await run_in_threadpool(self.store.remove_label, request.query_params.get("id", ""), self._tag(request))
        return Answer({})

    async def next_image(self, request: Request) -> Response:
        """An image without a label to go on with; nothing where all have one."""
        strategy = request.path_params["strategy"]
        if strategy not in STRATEGIES:
            raise BadRequest(f"expected a strategy of {', '.join(STRATEGIES)}; found {strategy[:40]!r}")
        left = [key for key, image in self.store.images().items() if FINAL not in image.labels]
        if not left:
            return Answer({})
        key = left[0] if strategy == "first" else random.choice(left)
        return Answer({"id": key, "name": _file_name(self.store.image(key), key)})

    def _status(self) -> dict[str, Any]:
        images = self.store.images()
        tags = [tag for image in images.values() for tag in image.labels]
        counts = {tag: tags.count(tag) for tag in sorted(set(tags))}
        return {"total": len(images), "completed": counts.get(FINAL, 0), "label_tags": counts}

    @staticmethod
    def _tag(request: Request) -> str:
        return request.query_params.get("tag", "") or FINAL

    async def _image_file(self, request: Request, image: Image, name: str) -> Response:
        """The image's own file; of a DICOM series, which has many, a NIfTI."""
        if not image.is_dicom:
            return FileResponse(image.path, filename=_file_name(image, name))
        content = await worked(request, self.served.files, "image", lambda say: nifti(self.store.read(image)[0]))
        disposition = {"Content-Disposition": f'attachment; filename="{MODEL}.nii.gz"'}
        return Response(content, media_type="application/gzip", headers=disposition)

    @asynccontextmanager
    async def _form(self, request: Request, *, least: int = 1, keep: bool = True) -> AsyncIterator[tuple[Path, Form]]:
        """The files of a form in a folder of their own. keep: whether that is whoever takes it, where all goes well."""
        folder = self.served.new_folder()
        try:
            name = lambda given: f"image{suffix_of(given)}"  # noqa: E731
            form = Form(request.headers.get("content-type", ""), folder / "files", name, MOST_FILES)
            try:
                async for chunk in chunks(request, self.served.most_bytes):
                    await run_in_threadpool(form.take, chunk)
                form.end(least=least)
            finally:
                form.close()
            for path in form.paths:
                await run_in_threadpool(check_whole, path)
            yield folder, form
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def _told(key: str, image: Image) -> dict[str, Any]:
    """A session as MONAI Label tells of it, without paths of this machine."""
    return {
        "name": key,
        "path": "",
        "image": _file_name(image, "image"),
        "meta": {},
        "create_ts": int(image.since),
        "last_access_ts": int(image.used),
        "expiry": int(image.lasts_s or 0),
    }


def _listed(image: Image) -> dict[str, Any]:
    info = {"ts": int(image.since), "name": image.path.name if image.folder is None else ""}
    labels = {tag: {"ext": ".nii.gz", "info": {}} for tag in image.labels}
    return {"image": {"ext": suffix_of(image.path.name) or ".nii.gz", "info": info}, "labels": labels}


def _file_name(image: Image, name: str) -> str:
    """A name for what `_image_file` gives."""
    return name + (".nii.gz" if image.is_dicom else suffix_of(image.path.name))
