"""`serve`: a local page that plans, classifies and explains."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from compoundnet.base import CompoundNetError
from compoundnet.cli.output import note

_MODELS = ["efficientnet-lite0"]
_NEEDED = ("starlette", "uvicorn")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Of 127.0.0.1; 0 takes a free one.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Name of `compoundnet models list`, model folder, or ONNX file of `export --with-cam` that the page"
            f" may use; repeat it for several. {_MODELS[0]} unless given.",
        ),
    ] = None,
) -> None:
    """Serve a page, for this machine only: plan a network, classify an image, see where the class is."""
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise CompoundNetError("the page is not installed; `pip install 'compoundnet[serve]'` installs it")
    from compoundnet import serve as page

    for name in model or []:
        page.check_model(name)  # what cannot be used is said now, not when an image is sent
    page.serve(model or _MODELS, port=port, started=_announce)
    sys.stdout.flush()
    os._exit(0)  # a thread that still explains an image would be waited for; it has nothing to save


def _announce(address: str) -> None:
    print(address)
    sys.stdout.flush()
    note("Open it in a browser; Ctrl-C stops it.")
