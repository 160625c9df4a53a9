"""OHIF beside a PACS, for tests and to try by hand: python tests/ohif/beside.py VIEWER http://127.0.0.1:8042/dicom-web

One address serves the viewer (`make ohif` fetches it) and passes /dicom-web on, as browsers want both from one origin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}
CONFIG = {
    "routerBasename": "/",
    "showStudyList": True,
    "extensions": [],
    "modes": [],
    "defaultDataSourceName": "pacs",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "pacs",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "wadoUriRoot": "/dicom-web",
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "qidoSupportsIncludeField": False,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


def beside(viewer: Path, dicom_web: str) -> ASGIApp:
    """The viewer in a folder, with a DICOMweb service as its only source."""
    pacs = httpx.AsyncClient(timeout=60, trust_env=False)

    async def passed_on(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in OF_ONE_HOP}
        url = f"{dicom_web}/{request.path_params['path']}?{request.url.query}".rstrip("?")
        asked = pacs.build_request(request.method, url, headers=headers, content=await request.body())
        answer = await pacs.send(asked, stream=True)

        async def body() -> AsyncIterator[bytes]:
            async for part in answer.aiter_raw():
                yield part
            await answer.aclose()

        kept = {name: value for name, value in answer.headers.items() if name not in OF_ONE_HOP}
        return StreamingResponse(body(), answer.status_code, kept)

    async def configured(_: Request) -> Response:
        return Response(f"window.config = {json.dumps(CONFIG)};", media_type="text/javascript")

    async def file(request: Request) -> Response:
        """A file of the viewer; every other address is one of its pages, which its script draws."""
        path = viewer / request.path_params["path"]
        inside = path.resolve().is_relative_to(viewer.resolve())
        return FileResponse(path if inside and path.is_file() else viewer / "index.html")

    return Starlette(
        routes=[
            Route("/dicom-web/{path:path}", passed_on, methods=["GET", "POST"]),
            Route("/app-config.js", configured),
            Route("/{path:path}", file),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(beside(Path(sys.argv[1]), sys.argv[2]), port=3000, log_level="warning")
