"""Protection of the server: it answers as JSON, and only to its page; no other page in the browser may use it.

Every page that the browser has open can reach a server on 127.0.0.1. A page whose host name was changed to point here
(DNS rebinding) is recognised by the Host header; a page of another origin that posts, by Origin or Sec-Fetch-Site.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compoundnet.base.faults import report_fault

_log = logging.getLogger(__name__)
API = "/api/"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def document(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response, structs field by field."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def problem(message: str, status: int) -> Response:
    """Return `{"error": message}`; the message is for the person who uses the page."""
    return document({"error": message}, status)


class Guard:
    """Middleware that passes a request on to `app` or refuses it, and adds the headers that isolate the page.

    Args:
        app: The application.
        hosts: The names, with their port, that requests may give in their header Host, the first in messages; None: any
            host and origin, for an application that asks for a token.
        guarded: The start of the paths that pages of other origins must not use.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None, guarded: str = API) -> None:
        self._app, self._hosts, self._guarded = app, hosts, guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope), scope["path"])
        answer = self._app if refused is None else problem(*refused)
        try:
            await answer(scope, receive, send_guarded)
        except Exception as error:  # answered already; the traceback is for a log file
            _log.error("%s", report_fault(error))

    def _refused(self, headers: Headers, path: str) -> tuple[str, int] | None:
        """The reason for refusing a request, and the status code; None if it is accepted."""
        if self._hosts is None:
            return None
        host = headers.get("host", "")
        if host not in self._hosts:
            return f"this page is at http://{self._hosts[0]}, not at {host or 'an address without a name'}", 421
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = origin not in (None, f"http://{host}") or site not in (None, "same-origin", "none")
        if foreign and path.startswith(self._guarded):
            return "another page asked for this; only this page may", 403
        return None
