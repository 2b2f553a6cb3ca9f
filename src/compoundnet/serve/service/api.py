"""The service's HTTP interface, as its OpenAPI document describes it (see `openapi`).

POST /v1/predict?model=NAME&top=5     images in, the most probable classes of each out (see `bodies` on the forms)
GET  /v1/models, /v1/models/NAME      what there is
GET  /openapi.json                    the description
GET  /metrics                         for Prometheus
GET  /healthz, /readyz                whether the process lives, and whether it takes requests; without the token

An error is `{"error": "..."}`: 400 for a bad request, 401 without the token, 403 and 421 where there is no token for
web pages and other names of this machine (see `guard`), 404 for what does not exist, 408 for a body that does not
arrive in time, 413 for too many bytes or images, 415 for another kind of body, 422 if no image can be read, 429 with
Retry-After if too many images wait, 500 for a fault of compoundnet, 503 while the service starts, stops, has too many
connections, or does not answer in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.faults import report_fault
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.progress import ignore
from compoundnet.runtime import ClassProbability, Predictor
from compoundnet.serve.guard import Guard, document, problem
from compoundnet.serve.service.batches import Batcher, Pixels
from compoundnet.serve.service.bodies import BodyError, NamedImage, images_of, read_body
from compoundnet.serve.service.metrics import CONTENT_TYPE, Metrics
from compoundnet.serve.service.openapi import openapi
from compoundnet.serve.service.served_models import ServedModels
from compoundnet.serve.service.settings import ServiceSettings
from compoundnet.serve.service.token import Token
from compoundnet.serve.uploads import read_upload

_log = logging.getLogger(__name__)
# What an orchestrator asks, which has no token.
_OPEN = ("/healthz", "/readyz")
_LONGEST_RETRY = 60
_UNKNOWN_MODEL = ""
_PARAMETERS = ("model", "top")


class ImageAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for an image.

    Attributes:
        name: The name that the request gave it.
        predictions: The most probable classes, best first. Of a model of several labels an image: all labels, those of
            the image first.
        labels: Of a model of several labels an image: those of this image; None for other models.
        note: What was assumed about an image with more than 8 bits a value, and the damage of a truncated file that is
            used as far as it can be decoded; None for others.
        error: Why the image cannot be read; None if it can.
    """

    name: str
    predictions: tuple[ClassProbability, ...] = ()
    labels: tuple[str, ...] | None = None
    note: str | None = None
    error: str | None = None


class PredictAnswer(msgspec.Struct, frozen=True):
    """The answer to a request.

    Attributes:
        model: The name of the model.
        images: In the order of the request.
    """

    model: str
    images: tuple[ImageAnswer, ...]


class Service:
    """The service as an ASGI application, `app`.

    Args:
        models: The models; opened when the application starts.
        settings: Its limits.
        token: What requests must hold; None: everyone who reaches it may use it.
        hosts: The names, with their port, that requests may give in their header Host; None: any. Without a token this
            keeps web pages out (see `guard`).
    """

    opened: Callable[[Exception | None], object] = staticmethod(ignore)
    """Called when the models are open, or with the error that prevents it."""

    def __init__(
        self,
        models: ServedModels,
        settings: ServiceSettings,
        *,
        token: Token | None,
        hosts: Sequence[str] | None,
    ) -> None:
        self._models, self._settings = models, settings
        self._taken, self._ready, self._stopping = 0, False, False
        self._metrics = Metrics(lambda: self._taken, lambda: self.waiting, lambda: self._ready)
        self._batcher = Batcher(
            lambda name, pixels: models[name].probabilities(pixels),
            models.runs_together,
            batch=settings.batch,
            wait=settings.batch_wait,
            ran=self._metrics.ran,
            threads=models.threads,
        )
        described = msgspec.json.encode(openapi(models.names, settings, PredictAnswer, secured=token is not None))
        inner = Starlette(
            routes=[
                Route("/v1/predict", self._predict, methods=["POST"]),
                Route("/v1/models", self._list),
                Route("/v1/models/{name}", self._describe),
                Route("/openapi.json", lambda _: Response(described, media_type="application/json")),
                Route("/metrics", lambda _: Response(self._metrics.text(), media_type=CONTENT_TYPE)),
                Route("/healthz", lambda _: document({"status": "alive"})),
                Route("/readyz", self._readiness),
            ],
            exception_handlers={BodyError: _answered, HTTPException: _no_such_path, Exception: _broken},
            lifespan=self._lifespan,
        )
        inner.router.redirect_slashes = False  # a client would have to send the images twice
        self.app: ASGIApp = Guard(_Locked(inner, token), hosts, guarded="/")

    @property
    def waiting(self) -> int:
        """The number of images that wait for the network, decoded or not."""
        return self._batcher.waiting

    def stop(self) -> None:
        """Refuse new requests from now on; those that were accepted are answered."""
        self._ready, self._stopping = False, True

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(_report)
        opening = asyncio.create_task(self._open())
        yield
        opening.cancel()
        self._batcher.close()

    async def _open(self) -> None:
        done: Future[None] = Future()
        # A daemon, unlike a thread of an executor: the end of the event loop does not wait for it.
        threading.Thread(target=self._open_models, args=[done], name="compoundnet-open", daemon=True).start()
        try:
            await asyncio.wrap_future(done)
        except Exception as error:
            self.opened(error)
            return
        self._ready = not self._stopping
        self.opened(None)

    def _open_models(self, done: Future[None]) -> None:
        done.set_running_or_notify_cancel()  # from now on it cannot be cancelled: its result is left unread
        try:
            self._models.open()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    async def _readiness(self, _: Request) -> Response:
        if self._ready:
            return document({"status": "ready"})
        return document({"status": "stopping" if self._stopping else "starting"}, 503)

    async def _list(self, _: Request) -> Response:
        return document({"models": [self._models.describe(name) for name in self._models.names]})

    async def _describe(self, request: Request) -> Response:
        return document(self._models.describe(self._known(request.path_params["name"]), labels=True))

    async def _predict(self, request: Request) -> Response:
        begun = time.monotonic()
        model, answer = _UNKNOWN_MODEL, problem("", 500)
        try:
            _check_parameters(request)
            model = self._known(request.query_params.get("model") or self._models.names[0])
            answer = await self._answer(request, model)
        except BodyError as error:
            answer = problem(error.message, error.status)
            if error.status == 429:
                answer.headers["Retry-After"] = str(self._seconds_until_free())
        except ClientDisconnect:  # nobody reads the answer
            answer = problem("the client left", 499)
        except asyncio.CancelledError:  # nothing else cancels a request
            answer = problem("the service was stopped before the request was answered", 503)
        finally:
            self._metrics.answered(model, answer.status_code, time.monotonic() - begun)
        return answer

    async def _answer(self, request: Request, model: str) -> Response:
        if not self._ready:
            raise BodyError(503, "the service is stopping" if self._stopping else "the service is starting")
        predictor, settings = self._models[model], self._settings
        top = _top(request, predictor)
        until = asyncio.get_running_loop().time() + settings.timeout
        with contextlib.ExitStack() as places:
            places.enter_context(self._places(1))
            try:
                async with asyncio.timeout_at(until):
                    body = await read_body(request, settings.max_bytes)
                    images = await images_of(request, body, settings.max_images)
            except TimeoutError:
                raise BodyError(408, f"the request did not arrive within {settings.timeout:g} s") from None
            del body
            places.enter_context(self._places(len(images) - 1))
            try:
                async with asyncio.timeout_at(until):
                    answers = await self._images(request, model, images, top)
            except TimeoutError:
                raise BodyError(503, f"the answer was not ready within {settings.timeout:g} s") from None
        unreadable = [it for it in answers if it.error is not None]
        self._metrics.read(model, len(answers) - len(unreadable), len(unreadable))
        return document(PredictAnswer(model, tuple(answers)), 422 if len(unreadable) == len(answers) else 200)

    async def _images(
        self, request: Request, model: str, images: Sequence[NamedImage], top: int | None
    ) -> list[ImageAnswer]:
        """The answers for images, unless the client leaves: then what has not begun is given up."""
        predictor = self._models[model]
        notes: dict[int, str] = {}
        results: list[Future[NDArray[np.float64]]] = [
            self._batcher.submit(model, functools.partial(self._decode, predictor, image, index, notes))
            for index, image in enumerate(images)
        ]
        done = asyncio.gather(*map(asyncio.wrap_future, results), return_exceptions=True)
        left = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise ClientDisconnect
            rows = done.result()
        finally:
            left.cancel()
            done.cancel()
        answers = []
        for index, (image, row) in enumerate(zip(images, rows, strict=True)):
            if isinstance(row, UnreadableImageError):
                answers.append(ImageAnswer(image.name, error=row.reason))
            elif isinstance(row, BaseException):
                raise row
            else:
                found = predictor.describe(row, top=top)
                answers.append(ImageAnswer(image.name, found.predictions, found.labels, notes.get(index)))
        return answers

    def _decode(self, predictor: Predictor, image: NamedImage, index: int, notes: dict[int, str]) -> Pixels:
        uploaded = read_upload(
            image.content,
            image.name,
            predictor.preprocess.range,
            allow_truncated=self._settings.allow_truncated,
            max_pixels=self._settings.max_pixels,
        )
        if uploaded.note is not None:
            notes[index] = uploaded.note
        return predictor.preprocess.pixels(uploaded.image)

    @contextlib.contextmanager
    def _places(self, images: int) -> Any:
        """Take places in the queue for images; only the event loop counts them."""
        if self._taken + images > self._settings.max_queue:
            raise BodyError(429, f"{self._taken:,} images are waiting, and {self._settings.max_queue:,} is the limit")
        self._taken += images
        try:
            yield
        finally:
            self._taken -= images

    def _seconds_until_free(self) -> int:
        return min(_LONGEST_RETRY, max(1, math.ceil(self._taken * self._batcher.seconds_per_image)))

    def _known(self, name: str) -> str:
        if name not in self._models.names:
            close = did_you_mean(name[:100], self._models.names)
            raise BodyError(404, f"there is no model {name[:100]!r}{close}")
        return name


class _Locked:
    """Middleware that passes on only requests with the token, and those of orchestrators."""

    def __init__(self, app: ASGIApp, token: Token | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        free = scope["type"] != "http" or self._token is None or scope["path"] in _OPEN
        if free or (self._token is not None and self._token.admits(Headers(scope=scope).get("authorization"))):
            await self._app(scope, receive, send)
            return
        refused = problem("the request lacks the token: send `Authorization: Bearer TOKEN`", 401)
        refused.headers["WWW-Authenticate"] = "Bearer"
        await refused(scope, receive, send)


def _report(_: object, context: dict[str, Any]) -> None:
    """Report what went wrong outside of requests, in one line."""
    _log.error("%s", report_fault(context.get("exception") or RuntimeError(context["message"])))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_parameters(request: Request) -> None:
    for name in request.query_params:
        if name not in _PARAMETERS:
            raise BodyError(400, f"there is no parameter {name[:100]!r}{did_you_mean(name[:100], _PARAMETERS)}")


def _top(request: Request, predictor: Predictor) -> int | None:
    given = request.query_params.get("top")
    if given is None:
        return None
    classes = predictor.model.network.num_classes
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= classes):
        raise BodyError(400, f"top must be 1 to {classes:,}, the classes of the model, got {given[:100]!r}")
    return int(given)


async def _answered(_: Request, error: Exception) -> Response:
    assert isinstance(error, BodyError)
    return problem(error.message, error.status)


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    if error.status_code != 405:
        return problem(f"there is nothing at {path!r}; /openapi.json describes what there is", error.status_code)
    allowed = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
    answer = problem(f"{path} takes {allowed}, not {request.method[:100]}", 405)
    answer.headers["Allow"] = allowed
    return answer


async def _broken(_: Request, error: Exception) -> Response:
    """`Guard` reports it; a model whose values are not finite is said to the client too."""
    said = str(error) if isinstance(error, CompoundNetError) else type(error).__name__
    return problem(f"this is a fault of the service, not yours ({said})", 500)
