"""The process of the service: its socket, its end, and the limits on connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from compoundnet.serve.addresses import listen, own_hosts
from compoundnet.serve.service.api import Service
from compoundnet.serve.service.served_models import ServedModels
from compoundnet.serve.service.settings import ServiceSettings
from compoundnet.serve.service.token import Token, check_address
from compoundnet.serve.uploads import bombs_raise

# Connections at a time; further ones are answered with 503 and closed.
_CONNECTIONS = 1000
# Bytes after which the headers of a request must have ended.
_HEADERS = 16_384


class ServiceServer(uvicorn.Server):
    """A server that SIGTERM or Ctrl-C ends when the accepted requests are answered, and a second one at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self.service.stop()


def serve_api(
    models: ServedModels,
    settings: ServiceSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Token | None = None,
    started: Callable[[str], object] = print,
) -> None:
    """Serve until SIGTERM or SIGINT (Ctrl-C), then finish what was accepted, and return.

    Images are neither logged nor stored.

    Args:
        models: The models.
        settings: The limits.
        host: The address; 0.0.0.0 and :: are all of this machine.
        port: The port; 0 selects a free one.
        token: What requests must hold. Only an address that no other machine can reach goes without.
        started: Called with the address once requests are answered, which is after all models are open.

    Raises:
        CompoundNetError: The address cannot be used, or needs a token; or a model cannot be opened.
    """
    check_address(host, token)
    failures: list[Exception] = []
    with listen(host, port) as listening, bombs_raise():
        port = listening.getsockname()[1]
        server = make_server(models, settings, token=token, hosts=None if token else own_hosts(host, port))

        def opened(error: Exception | None) -> None:
            if error is None:
                started(f"http://{f'[{host}]' if listening.family == socket.AF_INET6 else host}:{port}")
            else:
                failures.append(error)
                server.should_exit = True

        server.service.opened = opened
        server.run(sockets=[listening])
    for failure in failures:
        raise failure


def make_server(
    models: ServedModels, settings: ServiceSettings, *, token: Token | None = None, hosts: Sequence[str] | None = None
) -> ServiceServer:
    """Return a server of the models whose `run` takes the sockets.

    Args:
        models: The models; opened when it runs.
        settings: The limits.
        token: What requests must hold.
        hosts: What the header Host of a request may be; None: anything.
    """
    service = Service(models, settings, token=token, hosts=hosts)
    config = uvicorn.Config(
        service.app,
        http=_connection(settings.timeout),
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        h11_max_incomplete_event_size=_HEADERS,
        timeout_keep_alive=max(1, round(settings.timeout)),
        timeout_graceful_shutdown=round(settings.timeout) + 1,
    )
    for name in ("uvicorn.error", "python_multipart"):  # what clients do wrong is no fault, and they are told
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ServiceServer(config, service)


def _connection(seconds: float) -> type[asyncio.Protocol]:
    """HTTP connections that end if, for so many seconds, no request arrives, however slowly its headers come, or the
    client does not take what was sent.

    uvicorn has a limit for silence between requests only, and waits without one for a client that does not read. The
    time from a request's headers to its answer is limited by the service.
    """

    class Connection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._expire)
            if len(self.connections) > _CONNECTIONS:
                self._send("503 Service Unavailable", f"there are {_CONNECTIONS:,} connections, the limit; try again")
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:  # the client leaves more unread than the buffers hold
            super().pause_writing()
            self._restart()

        def on_response_complete(self) -> None:
            self._restart()
            super().on_response_complete()

        def _restart(self) -> None:
            self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._expire)

        def _expire(self) -> None:
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering and not self.flow.write_paused and not self.transport.is_closing():
                self._restart()
            else:  # a transport that closes waits for the client to read, too
                self.transport.abort()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # says less
            """uvicorn's is text, and raises an error if a body is found to be malformed after the answer."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._send("400 Bad Request", "this is not a request of HTTP/1.1, or its headers are too long")
            self.transport.close()

        def _send(self, status: str, message: str) -> None:
            """Send an error before, or without, a request that the application could answer."""
            content = msgspec.json.encode({"error": message})
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
                "Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)

    return Connection
