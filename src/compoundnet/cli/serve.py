"""`serve`: a local web page that plans, classifies and explains."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from compoundnet import serve as page
from compoundnet.base import need
from compoundnet.cli.options import AllowTruncated, complete_model
from compoundnet.cli.output import note

_MODELS = ["efficientnet-lite0"]


def serve(
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0: any free port.")
    ] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Let the page use this model: a name from `compoundnet models list`, a model folder, or an ONNX file"
            " of `export --with-cam`; repeatable.",
            show_default=_MODELS[0],
            autocompletion=complete_model,
        ),
    ] = None,
    allow_truncated: AllowTruncated = False,
) -> None:
    """Serve a web page to this machine only: plan a network, classify an image, see where the class is."""
    for library in ("starlette", "uvicorn"):
        need(library, "the page")
    for name in model or []:
        page.check_model(name)  # now, not when the first image arrives
    page.serve(model or _MODELS, port=port, allow_truncated=allow_truncated, started=_announce)
    sys.stdout.flush()
    os._exit(0)  # without waiting for threads that still compute: they have nothing to save


def _announce(address: str) -> None:
    print(address)
    sys.stdout.flush()
    note("Open it in a browser; Ctrl-C stops it.")
