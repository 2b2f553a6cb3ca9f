"""`serve`: a local web page that plans, classifies and explains, or with --api an HTTP service that classifies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compoundnet import serve as page
from compoundnet.base import need, parse_bytes, parse_count, parse_duration
from compoundnet.base.machine import remove_temporary_folders
from compoundnet.cli.options import AllowTruncated, Backend, Batch, Device, Precision, Threads, complete_model
from compoundnet.cli.output import note

if TYPE_CHECKING:
    from compoundnet.serve.service.settings import ServiceSettings

_MODELS = ["efficientnet-lite0"]
_HOST = "127.0.0.1"
_BATCH = 8


def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0: any free port.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",  # as in train
            metavar="MODEL",
            help="Use this model: a name from `compoundnet models list`, a model folder, or an exported file; for the"
            " page, one of `export --with-cam`. With --api NAME=MODEL names it. Repeatable.",
            show_default=_MODELS[0],
            autocompletion=complete_model,
        ),
    ] = None,
    allow_truncated: AllowTruncated = False,
    api: Annotated[
        bool, typer.Option("--api", help="Serve an HTTP API for other programs instead of the page.")
    ] = False,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="With --api: the address; 0.0.0.0: all, with --token-file."),
    ] = _HOST,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="With --api: the bearer token that requests must hold, in a file that only you can read.",
        ),
    ] = None,
    backend: Backend = None,
    precision: Precision = None,
    device: Device = "cpu",
    threads: Threads = None,
    batch: Batch = _BATCH,
    batch_wait: Annotated[
        str,
        typer.Option(
            "--batch-wait",
            metavar="TIME",
            help="With --api: how long an image waits for others, such as 5ms; 0: not at all.",
        ),
    ] = "0",
    max_queue: Annotated[
        int, typer.Option("--max-queue", metavar="N", help="With --api: the most images in progress; more get a 429.")
    ] = 64,
    max_bytes: Annotated[
        str, typer.Option("--max-bytes", metavar="BYTES", help="With --api: the most bytes of a request.")
    ] = "20MB",
    max_pixels: Annotated[
        str, typer.Option("--max-pixels", metavar="N", help="With --api: the most pixels of an image.")
    ] = "50M",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="With --api: the most time of a request.")
    ] = "30s",
) -> None:
    """Serve a web page to this machine: plan a network, classify an image, see where the class is.

    With --api, serve an HTTP API that classifies images for other programs, on this
    machine or others. SIGTERM ends it when the accepted requests are answered.
    """
    for library in ("starlette", "uvicorn", *(("prometheus_client", "python_multipart") if api else ())):
        need(library, *(("the service", "service") if api else ("the page", "serve")))
    if not api:
        _check_options(context)
        for name in model or []:
            page.check_model(name)  # now, not when the first image arrives
        page.serve(model or _MODELS, port=port, allow_truncated=allow_truncated, started=_announce)
    else:
        from compoundnet.serve.service.settings import ServiceSettings  # noqa: PLC0415  PIL, which the page need not wait for

        settings = ServiceSettings(
            batch=batch,
            batch_wait=0.0 if batch_wait.strip() == "0" else parse_duration(batch_wait) / 1e3,
            max_queue=max_queue,
            max_bytes=int(parse_bytes(max_bytes)),
            max_pixels=int(parse_count(max_pixels)),
            timeout=parse_duration(timeout) / 1e3,
            allow_truncated=allow_truncated,
        )
        machine = {"backend": backend, "precision": precision, "device": device, "threads": threads}
        _serve_api(model or _MODELS, settings, machine, host, port, token_file)
    sys.stdout.flush()
    remove_temporary_folders()
    os._exit(0)  # without waiting for threads that still compute: they have nothing to save


def _serve_api(
    given: list[str],
    settings: ServiceSettings,
    machine: dict[str, Any],
    host: str,
    port: int,
    token_file: Path | None,
) -> None:
    from compoundnet.serve.service.served_models import ServedModels, parse_models  # noqa: PLC0415  as above
    from compoundnet.serve.service.service import serve_api  # noqa: PLC0415  as above
    from compoundnet.serve.service.token import check_address, read_token  # noqa: PLC0415  as above

    token = None if token_file is None else read_token(token_file)
    check_address(host, token)
    models = ServedModels(parse_models(given), batch=settings.batch, **machine)

    def started(address: str) -> None:
        print(address)
        sys.stdout.flush()
        for way in models.ways():
            note(way)
        note(f"{address}/openapi.json describes the API. Ctrl-C or SIGTERM stops it.")
        if host != _HOST:
            note("Requests and the token are not encrypted: put a proxy with TLS in front of it on networks of others.")

    serve_api(models, settings, host=host, port=port, token=token, started=started)


def _check_options(context: typer.Context) -> None:
    """The page has no use for most options of the service."""
    for parameter in context.command.params:
        own = parameter.name in ("port", "model", "allow_truncated", "api", "help")
        source = context.get_parameter_source(str(parameter.name))
        if not own and source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
            raise typer.BadParameter(f"{parameter.opts[0]} goes with --api; the page is for this machine alone")


def _announce(address: str) -> None:
    print(address)
    sys.stdout.flush()
    note("Open it in a browser; Ctrl-C stops it.")
