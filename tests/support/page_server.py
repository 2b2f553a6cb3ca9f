"""The page of `compoundnet serve` on a free port: in a process of its own, or in this one, which starts sooner."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from compoundnet.serve.addresses import HOST, listen
from compoundnet.serve.app import create_app


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """GET, or POST where there is a body; `Sec_Fetch_Site=` is the header Sec-Fetch-Site."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


class Page(NamedTuple):
    """The page in this process."""

    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """See `ask`."""
        return ask(self.port, path, body, **headers)


class Server(NamedTuple):
    """The page in a process of its own."""

    address: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """See `ask`."""
        return ask(self.port, path, body, **headers)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Ctrl-C, or another signal: the exit code, and what stood on stderr."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@contextmanager
def page_here(*models: str | Path, allow_truncated: bool = False) -> Iterator[Page]:
    """The page in a thread of this process."""
    with listen(HOST, 0) as listening:
        port = listening.getsockname()[1]
        names = [str(model) for model in models] or ["efficientnet-lite0"]
        app = create_app(names, port, allow_truncated=allow_truncated)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Page(f"http://{HOST}:{port}")
        finally:
            server.should_exit = server.force_exit = True
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def served(
    *models: str | Path, options: Sequence[str] = (), cwd: Path | None = None, **environment: str
) -> Iterator[Server]:
    """`compoundnet serve --port 0 --model MODEL... OPTIONS`, with warnings as errors."""
    asked = [word for model in models for word in ("--model", str(model))]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "compoundnet", "serve", "--port", "0", *asked, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise AssertionError(process.communicate(timeout=60)[1])
        yield Server(address, process)
    finally:
        process.kill()
        process.communicate(timeout=60)
