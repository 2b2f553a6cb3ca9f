"""The service of `compoundnet serve --api` in this process, on a free port of the loopback address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import page_server

from compoundnet.serve.addresses import HOST, listen, own_hosts
from compoundnet.serve.service.served_models import ServedModels
from compoundnet.serve.service.service import ServiceServer, make_server
from compoundnet.serve.service.settings import ServiceSettings
from compoundnet.serve.service.token import Token
from compoundnet.serve.uploads import bombs_raise


class Running(NamedTuple):
    """A service that answers."""

    port: int
    server: ServiceServer

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> page_server.Answer:
        """GET, or POST where there is a body."""
        return page_server.ask(self.port, path, body, **headers)

    def predict(self, content: bytes, kind: str = "image/png", query: str = "", **headers: str) -> page_server.Answer:
        """POST an image or other body to /v1/predict."""
        return self.ask(f"/v1/predict?{query}", content, Content_Type=kind, **headers)


@contextmanager
def running(
    models: Mapping[str, str | Path],
    *,
    token: Token | None = None,
    changed: Callable[[ServedModels], object] = lambda _: None,
    **settings: Any,
) -> Iterator[Running]:
    """Models by name, on torch. `changed` is called with them when they are open; `settings`: of ServiceSettings."""
    found = ServedModels({name: str(model) for name, model in models.items()}, backend="torch", threads=1)
    with listen(HOST, 0) as listening, bombs_raise():
        port = listening.getsockname()[1]
        hosts = own_hosts(HOST, port) if token is None else None
        server = make_server(found, ServiceSettings(**settings), token=token, hosts=hosts)
        ready = threading.Event()
        errors: list[Exception] = []

        def opened(error: Exception | None) -> None:
            if error is not None:
                errors.append(error)
            ready.set()

        server.service.opened = opened
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert ready.wait(120)
            assert not errors, errors
            changed(found)
            yield Running(port, server)
        finally:
            server.should_exit = server.force_exit = True
            thread.join(60)
            assert not thread.is_alive()


def form(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Files as multipart/form-data: the body and its content type."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def until(true: Callable[[], object]) -> None:
    """Wait until something is true, and fail if it is not soon."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
