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
    """A server that Ctrl-C or SIGTERM stops at once: an unfinished answer can be asked for again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's
        self.should_exit = self.force_exit = True


def serve(models: Sequence[str], *, port: int = 8000, started: Callable[[str], None] = print) -> None:
    """Serve the page until SIGINT (Ctrl-C) or SIGTERM, then return. Nothing of an image is logged or kept.

    An image that is being explained then is finished in its thread, which the process waits for when it ends.

    Args:
        models: The models that the page may use: names, model folders, or exported files with their feature map.
        port: 0 takes a free one.
        started: Called with the page's address once it can be opened.

    Raises:
        CompoundNetError: the port cannot be used.
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
        started(f"http://{_HOST}:{port}")  # the socket listens already: an early request waits, and is served
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
