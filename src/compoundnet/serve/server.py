"""Runs the page on 127.0.0.1 until it is asked to stop."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from compoundnet.base import CompoundNetError
from compoundnet.serve.app import create_app

_HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Stops at once when it is asked to, by Ctrl-C or SIGTERM: an answer under way can be asked for again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's
        self.should_exit = self.force_exit = True


def serve(models: Sequence[str], *, port: int = 8000, started: Callable[[str], None] = print) -> None:
    """Serve the page until SIGINT (Ctrl-C) or SIGTERM, and return then. Nothing of a photo is logged or kept.

    A photo that is still looked at then goes on in its thread, which a process that ends by itself waits for.

    models   that the page may use: names, model folders, or exported files with their feature map
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
        )
        started(f"http://{_HOST}:{port}")  # the socket listens already: who comes early waits, and is served
        _Server(config).run(sockets=[listening])


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
