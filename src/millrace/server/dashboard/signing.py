"""Signing in and out: the bearer token is given once, and a cookie that scripts cannot read stands for it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from millrace.server import session
from millrace.server.auth import SIGN_IN, from_another_site
from millrace.server.dashboard.render import HEADERS, Renderer

if TYPE_CHECKING:
    from millrace.server.services import Services

_MOST = 8192


def router(services: Services, renderer: Renderer) -> APIRouter:
    """Return the sign-in page, and what its form and the sign-out button send to."""
    api = APIRouter()
    settings = services.settings
    token = settings.token.encode() if settings.require_auth else None

    @api.get(SIGN_IN)
    async def page(request: Request) -> Response:
        there = _inside(request.query_params.get("next", "/"))
        cookie = request.cookies.get(session.COOKIE, "")
        if token is None or session.signed_in(token, cookie):
            return RedirectResponse(there, 303, headers=dict(HEADERS))
        return renderer.page(request, "sign_in.html", next=there, wrong=False)

    @api.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        body = (await request.body())[:_MOST]
        form = parse_qs(body.decode("utf-8", "replace"))
        there = _inside(form.get("next", ["/"])[0])
        given = form.get("token", [""])[0].strip().encode()
        if from_another_site(request) or token is None or not hmac.compare_digest(given, token):
            return renderer.page(request, "sign_in.html", 403, next=there, wrong=True)
        reply = RedirectResponse(there, 303, headers=dict(HEADERS))
        reply.set_cookie(
            session.COOKIE,
            session.sign_in(token),
            max_age=session.LASTS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return reply

    @api.post("/ui/sign-out")
    async def sign_out() -> Response:
        reply = RedirectResponse(SIGN_IN, 303, headers=dict(HEADERS))
        reply.delete_cookie(session.COOKIE, httponly=True, samesite="strict")
        return reply

    return api


def _inside(path: str) -> str:
    """Return a path of this server to go on to; what could lead elsewhere becomes the first page."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable():
        return "/"
    return path
