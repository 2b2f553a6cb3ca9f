"""The service under load and hostile clients: too many images, bombs, slow ones, those that leave, and its end."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import signal
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command import run
from filelock import FileLock
from page_server import ask, served
from PIL import Image
from service_server import Running, form, running, until
from small_model import write_small_model
from starlette.requests import Request

from compoundnet.base import CompoundNetError
from compoundnet.runtime import session
from compoundnet.serve.addresses import HOST, listen
from compoundnet.serve.service import service as limits
from compoundnet.serve.service.bodies import BodyError, images_of
from compoundnet.serve.service.served_models import ServedModels
from compoundnet.serve.service.service import make_server
from compoundnet.serve.service.settings import ServiceSettings

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


class Gate:
    """Keeps the network from running until it is opened."""

    def __init__(self) -> None:
        self.open, self.reached, self.runs = threading.Event(), threading.Event(), list[int]()

    def __call__(self, models: ServedModels) -> None:
        predictor = models["small"]
        real = predictor.probabilities

        def probabilities(pixels: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            self.runs.append(len(pixels))
            return real(pixels)

        predictor.probabilities = probabilities  # type: ignore[method-assign]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


def image(width: int = 90, height: int = 60) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(content, "PNG")
    return content.getvalue()


def request(port: int, size: int, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\nContent-Length: {size}"
    return "\r\n".join([head, *lines, "", ""]).encode()


def taken(service: Running) -> float:
    text = service.ask("/metrics").body.decode()
    return float(
        next(line for line in text.splitlines() if line.startswith("compoundnet_images_in_progress")).split()[1]
    )


def connections(service: Running) -> list[Any]:
    return list(service.server.server_state.connections)


def test_images_of_several_requests_run_together_and_more_than_the_queue_are_told_to_wait(
    model: Path, gate: Gate
) -> None:
    with running({"small": model}, changed=gate, max_queue=6, batch=4) as service, ThreadPoolExecutor(6) as pool:
        first = pool.submit(service.predict, image())
        assert gate.reached.wait(30)
        others = [pool.submit(service.predict, image()) for _ in range(5)]
        until(lambda: taken(service) == 6)
        refused = service.predict(image())
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"] == "6 images are waiting, and 6 is the limit"
        until(lambda: service.server.service.waiting == 5)
        until(lambda: len(service.server.service._batcher._queue) == 5)  # decoded
        gate.open.set()
        assert {asked.result(30).status for asked in (first, *others)} == {200}
        assert gate.runs == [1, 4, 1]
        until(lambda: taken(service) == 0)
        assert service.predict(image()).status == 200


def test_an_answer_that_takes_too_long_is_given_up(model: Path, gate: Gate) -> None:
    with running({"small": model}, changed=gate, timeout=0.5) as service:
        answer = service.predict(image())
        assert (answer.status, answer.json()["error"]) == (503, "the answer was not ready within 0.5 s")
        until(lambda: taken(service) == 0)
        gate.open.set()
        assert service.predict(image()).status == 200


def test_a_client_that_leaves_frees_its_place_and_is_not_run(model: Path, gate: Gate) -> None:
    with running({"small": model}, changed=gate) as service, ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.predict, image())
        assert gate.reached.wait(30)
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request(service.port, len(image())) + image())
            until(lambda: taken(service) == 2)
        until(lambda: taken(service) == 1)
        gate.open.set()
        assert first.result(30).status == 200
        service.predict(image())
        assert gate.runs == [1, 1]


def test_a_body_of_a_million_images_is_refused_in_little_memory() -> None:
    count = 200_000
    body = b'{"images": [' + b",".join([b'{"data":""}'] * count) + b"]}"
    asked = Request({"type": "http", "headers": [(b"content-type", b"application/json")]})
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="the request holds more than 64 images, the limit") as refused:
            asyncio.run(images_of(asked, body, 64))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413
    assert peak < 100 * count


def test_slow_clients_are_cut_off(model: Path) -> None:
    with running({"small": model}, timeout=0.6) as service:
        begun = time.monotonic()
        # A body that never ends, headers that come a byte at a time, and silence after an answer.
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
            slow.sendall(request(service.port, 1000) + b"x")
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow, pytest.raises(OSError):
            for byte in request(service.port, 10) * 100:
                slow.sendall(bytes([byte]))
                time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as silent:
            assert silent.recv(1) == b""
        assert time.monotonic() - begun < 30
        assert service.predict(image()).status == 200


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(["/openapi.json"] * 1000, id="more answers than the buffers hold"),
        pytest.param(["/openapi.json"] * 4, id="answers that the buffers hold"),
        pytest.param(["/openapi.json"] * 3 + ["/last"], id="a connection that the client wants closed"),
    ],
)
def test_clients_that_do_not_read_are_cut_off(model: Path, asked: list[str]) -> None:
    with running({"small": model}, timeout=0.3) as service, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.settimeout(30)
        deaf.connect(("127.0.0.1", service.port))
        until(lambda: connections(service))
        (own,) = connections(service)
        own.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        close = {"/last": "Connection: close\r\n"}
        lines = [
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n{close.get(path, '')}\r\n" for path in asked
        ]
        with suppress(ConnectionError):  # cut off already
            deaf.sendall("".join(lines).encode())
        until(lambda: not connections(service))
        assert own.transport.get_write_buffer_size() == 0
        assert service.predict(image()).status == 200


def test_connections_above_the_limit_are_answered_and_closed(model: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "_CONNECTIONS", 2)
    with running({"small": model}) as service:
        others = [socket.create_connection(("127.0.0.1", service.port), timeout=30) for _ in range(2)]
        until(lambda: len(connections(service)) == 2)
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as refused:
            told = b"".join(iter(lambda: refused.recv(1 << 16), b""))
        assert told.startswith(b"HTTP/1.1 503 ")
        assert json.loads(told.partition(b"\r\n\r\n")[2]) == {"error": "there are 2 connections, the limit; try again"}
        assert len(connections(service)) == 2
        for other in others:
            other.close()
        until(lambda: not connections(service))
        assert service.predict(image()).status == 200


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        pytest.param([b"nonsense\r\n\r\n"], 400, id="no HTTP"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: h\r\nA: ".ljust(16_385, b"a")], 400, id="long headers"),
        pytest.param(
            [b"GET /healthz HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"nonsense\r\n"],
            421,
            id="a body that is malformed after the answer",
        ),
    ],
)
def test_what_is_not_http_is_no_fault_of_the_service(
    model: Path, parts: list[bytes], status: int, empty_cache: Path
) -> None:
    with running({"small": model}) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(parts[0])
            told = b""
            while not told.endswith(b"}"):
                told += (part := connection.recv(1 << 16))
                assert part, told
            assert told.startswith(f"HTTP/1.1 {status} ".encode())
            assert list(json.loads(told.partition(b"\r\n\r\n")[2])) == ["error"]
            for part in parts[1:]:
                connection.sendall(part)
            assert connection.recv(1) == b""
        assert service.predict(image()).status == 200
    assert not (empty_cache / "logs").exists()


def png_bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, in a few bytes."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)) + rows.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_bombs_are_refused_before_they_are_decoded(model: Path) -> None:
    with running({"small": model}, max_pixels=1_000_000) as service:
        bombs = {"1001.png": png_bomb(1001), "10000.png": png_bomb(10_000), "20000.png": png_bomb(20_000)}
        told = service.predict(*form({**bombs, "1000.png": png_bomb(1000)})).json()["images"]
    assert [it.get("error") for it in told] == [
        "has 1,002,001 pixels, and 1,000,000 is the limit; make it smaller",
        "has more than 1,000,000 pixels; make it smaller",
        "has more than 1,000,000 pixels; make it smaller",
        None,
    ]


def test_a_model_that_gives_nonsense_is_a_fault_of_the_service(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path))

    def broken(models: ServedModels) -> None:
        def probabilities(_: Any) -> Any:
            raise CompoundNetError("small gives values that are not finite")

        models["small"].probabilities = probabilities  # type: ignore[assignment,method-assign]

    with running({"small": model}, changed=broken) as service:
        answer = service.predict(image())
        assert answer.status == 500
        assert "small gives values that are not finite" in answer.json()["error"]
        assert service.ask("/readyz").status == 200
    assert len(list((tmp_path / "logs").iterdir())) == 1


@pytest.mark.parametrize(("backend", "together"), [("openvino", True), ("onnxruntime", False)])
def test_only_sessions_that_threads_may_share_run_images_one_by_one(model: Path, backend: str, together: bool) -> None:
    pytest.importorskip(backend)
    models = ServedModels({"small": str(model)}, backend=backend, threads=2, batch=4)
    models.open()
    assert models.runs_together("small") is together
    assert models["small"].session.threads == (2 if together else 1)


def test_what_runs_a_model_and_why_is_said(model: Path, empty_cache: Path) -> None:
    models = ServedModels({"cats": str(model)}, backend="torch", precision="auto", threads=1)
    assert (models.describe("cats").backend, models.ways()) == (None, [])
    models.open()
    assert (models.describe("cats").backend, models.describe("cats").precision) == ("torch", "float32")
    (said,) = models.ways()
    assert said.startswith("cats: auto takes torch in float32 (torch float32 ")
    assert said.endswith("; no other precision than float32 runs here")


def test_sigterm_ends_it_while_models_are_opened(model: Path, empty_cache: Path) -> None:
    """Another process compiles the same model, and this one waits for it."""
    session(model, threads=1)
    (entry,) = (empty_cache / "sessions").glob("small-onnxruntime-*")
    shutil.rmtree(entry)
    models = ServedModels({"small": str(model)}, threads=1)
    with listen(HOST, 0) as listening, FileLock(entry.with_name(f".{entry.name}.lock")):
        server = make_server(models, ServiceSettings())
        told: list[Exception | None] = []
        server.service.opened = told.append
        running_server = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running_server.start()
        until(lambda: server.started)
        assert ask(listening.getsockname()[1], "/readyz").json() == {"status": "starting"}
        server.handle_exit(signal.SIGTERM, None)
        running_server.join(30)
        ended = not running_server.is_alive()
    running_server.join(60)
    assert (ended, told) == (True, [])


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(model: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    options = ["--api", "--backend", "torch", "--threads", "1", "--token-file", str(token), "--host", "0.0.0.0"]
    with served(f"m={model}", options=options) as service:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert service.address.startswith("http://0.0.0.0:")
        assert [it["name"] for it in service.ask("/v1/models", None, **bearer).json()["models"]] == ["m"]
        done = run("serve", "--api", "--port", str(service.port), "--model", model, "--backend", "torch")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert done.stderr.startswith(f"error: port {service.port} is in use")
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
            content = image()
            connection.sendall(request(service.port, len(content), **bearer) + content[:50])
            while "compoundnet_images_in_progress 1.0" not in service.ask("/metrics", None, **bearer).body.decode():
                time.sleep(0.01)
            service.process.terminate()
            for _ in range(500):
                try:
                    socket.create_connection(("127.0.0.1", service.port), timeout=5).close()
                except OSError:
                    break
                time.sleep(0.01)
            connection.sendall(content[50:])
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        _, stderr = service.process.communicate(timeout=60)
        assert service.process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["images"][0]["predictions"]) == 5
    assert stderr.splitlines() == [
        "m runs on torch in float32",
        f"{service.address}/openapi.json describes the API. Ctrl-C or SIGTERM stops it.",
        "Requests and the token are not encrypted: put a proxy with TLS in front of it on networks of others.",
    ]
