"""``/docs``: the OpenAPI page, with nothing loaded from anywhere but this server."""

from __future__ import annotations

import asyncio
import html
import json
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from millrace.errors import NotFound
from millrace.server.artifacts import serve_file
from millrace.server.replies import json_reply

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" type="image/png" href="docs/favicon.png{query}">
<link rel="stylesheet" href="docs/swagger-ui.css{query}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js{query}"></script>
<script src="docs/start.js{query}"></script>
</body>
</html>
"""

_START = """const token = new URLSearchParams(location.search).get("access_token");
const ui = SwaggerUIBundle({{
  url: "openapi.json" + {query},
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  onComplete: () => {{ if (token) ui.preauthorizeApiKey("bearer", token); }},
}});
"""


def assets() -> Path:
    """Return the directory of Swagger UI's files, which the package fastapi-offline carries."""
    found = find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise NotFound("the documentation page needs the package fastapi-offline; install it again")
    return Path(found.origin).parent / "static"


def router() -> APIRouter:
    """Return ``/docs`` and its files. A token given as ``?access_token=`` is passed on to them."""
    api = APIRouter(include_in_schema=False)
    safe = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    @api.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return json_reply(await asyncio.to_thread(request.app.openapi))

    @api.get("/docs")
    async def page(request: Request) -> Response:
        query = _query(request)
        return HTMLResponse(_PAGE.format(title="Millrace API", query=html.escape(query)), headers=safe)

    @api.get("/docs/start.js")
    async def start(request: Request) -> Response:
        script = _START.format(query=json.dumps(_query(request)))
        return Response(script, media_type="text/javascript", headers=safe)

    @api.get("/docs/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in _ASSETS:
            raise NotFound(f"the documentation has no file {name!r}")
        folder = await asyncio.to_thread(assets)
        reply = await serve_file(
            request, folder / name, name=name, media_type=_ASSETS[name], disposition="inline"
        )
        del reply.headers["Content-Security-Policy"]
        return reply

    return api


def _query(request: Request) -> str:
    given = request.url.query
    return f"?{given}" if given else ""
