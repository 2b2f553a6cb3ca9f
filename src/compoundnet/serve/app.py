"""The page's HTTP interface: the files of `static/`, and JSON under `/api/`.

GET  /api/choices                                   baselines, rules, models, and the limit of an image's bytes
GET  /api/scale?network=NAME&phi=1.3                `plans.ScaledNetwork`; rule=NAME for another rule than compound
GET  /api/plan?network=NAME&max_macs=1.8G           the same for the largest network within max_macs and max_params
POST /api/explain?model=NAME&name=cat.jpg           the body is the image file: `explanations.ShownImage`

An error is `{"error": "..."}`: 400 for a bad request, 413 for an image with too many bytes, 403 and 421 for another
page (see `guard`), 404 and 405 for what does not exist, 500 for a fault of compoundnet, 503 while the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from compoundnet.base import CompoundNetError
from compoundnet.serve.addresses import HOST, own_hosts
from compoundnet.serve.explanations import Explainers
from compoundnet.serve.guard import API, Guard, document, problem
from compoundnet.serve.plans import baselines, planned, rules, scaled

MAX_BYTES = 20_000_000
_STATIC = Path(__file__).parent / "static"


def create_app(models: Sequence[str], port: int, *, allow_truncated: bool = False) -> ASGIApp:
    """Return the page as an ASGI application.

    Args:
        models: The models that it may use, in the form that commands accept; the first is the default.
        port: The port it listens on, which the Host header of every request must name.
        allow_truncated: Whether truncated or damaged images are used as far as they can be decoded.
    """
    explainers = Explainers(models, allow_truncated=allow_truncated)
    one_at_a_time = anyio.CapacityLimiter(1)  # processing an image uses all cores, and much memory if it is large

    async def choices(_: Request) -> Response:
        return document(
            {"baselines": baselines(), "rules": rules(), "models": explainers.names, "max_bytes": MAX_BYTES}
        )

    def scale(request: Request) -> Response:
        rule = request.query_params.get("rule")
        return document(scaled(_parameter(request, "network"), _parameter(request, "phi"), rule))

    def plan(request: Request) -> Response:
        query = request.query_params
        return document(planned(_parameter(request, "network"), query, query.get("rule")))

    async def explain(request: Request) -> Response:
        model = _parameter(request, "model")
        name = request.query_params.get("name") or "the image"
        try:
            content = await _body(request)
            if content is None:
                return problem(f"{name}: is larger than {MAX_BYTES // 1_000_000} MB; make it smaller", 413)
            answer = await anyio.to_thread.run_sync(explainers.explain, model, content, name, limiter=one_at_a_time)
        except ClientDisconnect:  # in the middle of the upload: nobody reads the answer
            return problem("the upload was cut off", 400)
        except asyncio.CancelledError:  # nothing else cancels a request
            return problem("`compoundnet serve` was stopped before the image was explained", 503)
        return document(answer)

    app = Starlette(
        routes=[
            Route(f"{API}choices", choices),
            Route(f"{API}scale", scale),
            Route(f"{API}plan", plan),
            Route(f"{API}explain", explain, methods=["POST"]),
            Mount("/", StaticFiles(directory=_STATIC, html=True)),
        ],
        exception_handlers={CompoundNetError: _failed, HTTPException: _no_such_page, Exception: _broken},
    )
    return Guard(app, own_hosts(HOST, port))


def _parameter(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise CompoundNetError(f"the address lacks {name}=")
    return value


async def _body(request: Request) -> bytes | None:
    """The body of the request; None if it exceeds the limit.

    A longer body is still read and dropped, because a browser shows no answer if its upload is cut off.
    """
    received = bytearray()
    too_long = False
    async for chunk in request.stream():
        too_long = too_long or len(received) + len(chunk) > MAX_BYTES
        if too_long:
            received.clear()
        else:
            received += chunk
    return None if too_long else bytes(received)


async def _failed(_: Request, error: Exception) -> Response:
    return problem(str(error), 400)


async def _no_such_page(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.detail, error.status_code)


async def _broken(_: Request, error: Exception) -> Response:
    """`Guard` reports it."""
    return problem(f"this is a fault of compoundnet, not yours ({type(error).__name__}: {error})", 500)
