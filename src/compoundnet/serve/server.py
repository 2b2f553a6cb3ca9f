"""Runs the page on 127.0.0.1 until it is interrupted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

import uvicorn

from compoundnet.arch import CompoundNetError
from compoundnet.serve.app import create_app

_HOST = "127.0.0.1"
_PATIENCE = 2  # seconds that answers under way are given when the page is stopped


def serve(models: Sequence[str], *, port: int = 8000, started: Callable[[str], None] = print) -> None:
    """Serve the page until SIGINT (Ctrl-C), and return then. Nothing of a photo is logged or kept.

    models   that the page may use: names, or model folders
    port     0 takes a free one
    started  is called with the page's address once it can be opened

    Raises CompoundNetError where the port is not to be had.
    """
    with _listen(port) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            create_app(models, port),
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_PATIENCE,
        )
        started(f"http://{_HOST}:{port}")  # the socket listens already: who comes early waits, and is served
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn stops what runs first, and raises it then
            return


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise CompoundNetError(
                f"port {port} is in use, perhaps by another `compoundnet serve`; --port takes another, and --port 0"
                " any that is free"
            ) from error
        raise CompoundNetError(f"port {port} cannot be used: {error.strerror or error}") from error
    return listening
