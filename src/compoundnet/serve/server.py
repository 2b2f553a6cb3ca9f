"""The server of the page on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from compoundnet.serve.addresses import HOST, listen
from compoundnet.serve.app import create_app


class _Server(uvicorn.Server):
    """A server that Ctrl-C or SIGTERM stops at once, because an unfinished request can be repeated."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's
        self.should_exit = self.force_exit = True


def serve(
    models: Sequence[str],
    *,
    port: int = 8000,
    allow_truncated: bool = False,
    started: Callable[[str], None] = print,
) -> None:
    """Serve the page until SIGINT (Ctrl-C) or SIGTERM, then return. Images are neither logged nor stored.

    An image that is being explained at that time is finished in its thread, for which the process waits at its end.

    Args:
        models: The models that the page may use: names, model folders, or exported files with their feature map.
        port: The port; 0 selects a free one.
        allow_truncated: Whether truncated or damaged images are used as far as they can be decoded.
        started: Called with the page's address once it can be opened.

    Raises:
        CompoundNetError: the port cannot be used.
    """
    with listen(HOST, port) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            create_app(models, port, allow_truncated=allow_truncated),
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
        )
        started(f"http://{HOST}:{port}")  # the socket already listens: an early request waits and is then served
        _Server(config).run(sockets=[listening])
