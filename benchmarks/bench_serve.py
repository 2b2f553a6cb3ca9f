"""The service under load, against FastAPI, LitServe and BentoML with timm's eager model: `python bench_serve.py`.

Each service answers requests of one image on the same cores as the client. Its capacity is the requests a second that
8 clients get who ask again at once; the median of interleaved rounds, while the other services are stopped. At 50 and
90 % of its own capacity, requests come at random moments (a Poisson process), and the times from the moment to the
answer are reported. The engines are compared with each other by giving them our predictor. The peers live in a virtual
environment of their own, which the first run makes beside the libraries of this one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import skimage.data
import torch
from harness import machine
from PIL import Image

import compoundnet as cn
from compoundnet import models
from compoundnet.models import Preprocess, write_folder

_HERE = Path(__file__).parent
_BOUNDARY = "boundary-of-the-benchmark"
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"
_CLIENTS = 8
_PEERS = ("bentoml", "fastapi", "litserve", "python-multipart", "httptools", "uvloop")
# Services by name: the engine, and what predicts.
SERVICES = {
    "compoundnet serve --api": ("", "ours"),
    "FastAPI, timm eager": ("fastapi", "timm"),
    "LitServe, timm eager": ("litserve", "timm"),
    "BentoML, timm eager": ("bentoml", "timm"),
    "FastAPI, our predictor": ("fastapi", "ours"),
    "LitServe, our predictor": ("litserve", "ours"),
    "BentoML, our predictor": ("bentoml", "ours"),
}


class Measured(NamedTuple):
    """A service under load.

    Attributes:
        capacity: Requests a second, the median of the rounds.
        lowest: The slowest round.
        highest: The fastest round.
        work: Processor time of a request in all processes of the service, in milliseconds, the median of the rounds.
        half: Median and 99th percentile of the times at half of the capacity, in milliseconds.
        most: The same at 90 % of it.
    """

    capacity: float
    lowest: float
    highest: float
    work: float
    half: tuple[float, float]
    most: tuple[float, float]


class Client:
    """Sends images over connections that stay open.

    Args:
        port: The service's.
        bodies: What is sent, in turn.
        path: Where to.
    """

    def __init__(self, port: int, bodies: list[bytes], path: str) -> None:
        self._port, self._free = port, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {_FORM}"
        self._requests = [f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._next = 0

    async def ask(self) -> bytes:
        """Send the next image, and return the body of the answer."""
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        head = b""
        while not head:
            kept = bool(self._free)
            reader, writer = self._free.pop() if kept else await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError):  # services close connections that were not used for long
                if not kept:
                    raise
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        lower = head.lower()
        size = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        self._free.append((reader, writer))
        return body

    async def capacity(self, seconds: float) -> float:
        """Return the requests a second that clients get who ask again at once."""
        until, answered = time.perf_counter() + seconds, 0

        async def one() -> None:
            nonlocal answered
            while time.perf_counter() < until:
                await self.ask()
                answered += 1

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(_CLIENTS)))
        return answered / (time.perf_counter() - begun)

    async def times(self, rate: float, seconds: float) -> tuple[float, float]:
        """Return the median and the 99th percentile of the milliseconds of requests at random moments."""
        drawn, begun, moment = random.Random(0), time.perf_counter(), 0.0
        taken: list[float] = []

        async def one(due: float) -> None:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            await self.ask()
            taken.append((time.perf_counter() - begun - due) * 1e3)

        tasks = []
        while moment < seconds:
            moment += drawn.expovariate(rate)
            tasks.append(asyncio.create_task(one(moment)))
        await asyncio.gather(*tasks)
        return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def bodies(name: str) -> list[bytes]:
    """Photos of scikit-image as JPEG files of 500 x 375 px, the size of ImageNet's, each in the form of a service."""
    field = "request" if SERVICES[name][0] == "litserve" else "image"
    found = []
    for photo in ("astronaut", "cat", "coffee", "rocket"):
        image = Image.fromarray(getattr(skimage.data, photo)()).convert("RGB").resize((500, 375))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=90)
        part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{photo}.jpg"\r\n'
        head = f"{part}Content-Type: image/jpeg\r\n\r\n".encode()
        found.append(head + content.getvalue() + f"\r\n--{_BOUNDARY}--\r\n".encode())
    return found


def write_models(name: str, folder: Path) -> dict[str, str]:
    """Write a model as timm's file, and return what the services read; weights are random if none can be had."""
    model, timm = name, folder / "timm.safetensors"
    if name not in {entry.network for entry in models.entries() if models.is_fetched(entry)}:
        model, network = str(folder / "model"), cn.network(name)
        torch.manual_seed(0)
        made = cn.build(network).state_dict()
        write_folder(
            Path(model), network, made, Preprocess.authors(network.resolution), readme="Random.\n", replace=True
        )
    models.convert_to(model, timm, layout="timm", replace=True)
    return {"MODEL": model, "TIMM": f"tf_{name.replace('-', '_')}", "WEIGHTS": str(timm)}


def peers_python(folder: Path) -> str:
    """The interpreter of the environment of the peers, made if it is missing."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        parent = next(path for path in sys.path if path.endswith("site-packages"))
        # As a site folder, not as a path: an editable installation of compoundnet is a .pth file in it.
        (packages / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *_PEERS], check=True)
        (folder / "complete").touch()
    return str(python)


@contextmanager
def serving(name: str, port: int, python: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A service in processes of its own, which answers."""
    engine, kind = SERVICES[name]
    words = [python, str(_HERE / "service_peers.py"), engine, kind, str(port)]
    if not engine:
        words = [sys.executable, "-m", "compoundnet", "serve", "--api", "--port", str(port)]
        words += ["--model", environment["MODEL"], "--max-queue", "1000"]  # the peers have no bound
    log = Path(environment["LOGS"], f"{port}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, cwd=_HERE, env=environment)
        try:
            _wait_for(port, process, log, bodies(name)[0], _path(name))
            yield process
        finally:
            signal_all(process, signal.SIGKILL)
            process.wait()


def _path(name: str) -> str:
    return "/predict" if SERVICES[name][0] else "/v1/predict?top=1"


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path, body: bytes, path: str) -> None:
    kind = {"Content-Type": _FORM}
    for _ in range(1500):
        assert process.poll() is None, log.read_text()
        try:
            asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, kind)
            with urllib.request.urlopen(asked, timeout=10):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"it does not answer: {log.read_text()}")


def index_of(answer: bytes) -> int:
    """The most probable class in an answer of any of the services."""
    told = json.loads(answer)
    return int(told["index"] if "index" in told else told["images"][0]["predictions"][0]["index"])


async def measure(name: str, port: int, rates: list[float], seconds: float) -> list[tuple[float, float]]:
    """The times at each rate, in requests a second."""
    client = Client(port, bodies(name), _path(name))
    await client.capacity(0.5)
    return [await client.times(rate, seconds) for rate in rates]


async def capacity(name: str, port: int, seconds: float, process: int) -> tuple[float, float, list[int]]:
    """The requests a second, the processor time of each in milliseconds, and the classes of the images."""
    client = Client(port, bodies(name), _path(name))
    classes = [index_of(await client.ask()) for _ in bodies(name)]
    await client.capacity(0.5)
    before, begun = processor_time(process), time.perf_counter()
    rate = await client.capacity(seconds)
    used = processor_time(process) - before
    return rate, 1e3 * used / (rate * (time.perf_counter() - begun)), classes


def family(process: int) -> list[psutil.Process]:
    """A process and its descendants."""
    found = psutil.Process(process)
    return [found, *found.children(recursive=True)]


def processor_time(process: int) -> float:
    """The seconds of processor time that a process and its descendants have used."""
    return float(sum(sum(one.cpu_times()[:2]) for one in family(process)))


def signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and its descendants."""
    for one in family(process.pid):
        one.send_signal(number)


def compare(names: list[str], environment: dict[str, str], python: str, rounds: int, seconds: float) -> None:
    """Measure the services in turn, and print a table."""
    with ExitStack() as stack:
        processes = {}
        for port, name in enumerate(names, 18_400):
            processes[name] = (port, stack.enter_context(serving(name, port, python, environment)))
            signal_all(processes[name][1], signal.SIGSTOP)
        found: dict[str, list[float]] = {name: [] for name in names}
        work: dict[str, list[float]] = {name: [] for name in names}
        classes: dict[str, list[int]] = {}
        for _ in range(rounds):
            for name, (port, process) in processes.items():
                with _alone(process):
                    rate, used, classes[name] = asyncio.run(capacity(name, port, seconds, process.pid))
                found[name].append(rate)
                work[name].append(used)
                print(f"{name}: {rate:.1f}/s, {used:.1f} ms of processor time", file=sys.stderr)
        if Path(environment["MODEL"]).exists():
            print("The weights are random, so the classes are not compared.\n")
        else:
            assert len(set(map(tuple, classes.values()))) == 1, classes
        results = {}
        for name, (port, process) in processes.items():
            middle = statistics.median(found[name])
            with _alone(process):
                half, most = asyncio.run(measure(name, port, [0.5 * middle, 0.9 * middle], 2 * seconds))
            results[name] = Measured(
                middle, min(found[name]), max(found[name]), statistics.median(work[name]), half, most
            )
    ours = results[names[0]].capacity
    print("| service | requests/s (rounds) | ours is | processor time, ms | median, p99 at 50 %, ms | at 90 % |")
    print("|---|---|---|---|---|---|")
    for name, one in results.items():
        print(
            f"| {name} | {one.capacity:.1f} ({one.lowest:.1f} to {one.highest:.1f}) | {ours / one.capacity:.2f}x"
            f" | {one.work:.1f} | {one.half[0]:.0f}, {one.half[1]:.0f} | {one.most[0]:.0f}, {one.most[1]:.0f} |"
        )


@contextmanager
def _alone(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let a service run, whose processes are stopped otherwise."""
    signal_all(process, signal.SIGCONT)
    time.sleep(0.5)
    try:
        yield
    finally:
        signal_all(process, signal.SIGSTOP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet-lite0")
    parser.add_argument("--peers", type=Path, default=_HERE.parent / "build" / "bench_serve", help="their venv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", help="a part of the names of the services that ours is compared with")
    asked = parser.parse_args()
    ours, *others = SERVICES
    names = [ours, *(name for name in others if asked.only is None or asked.only in name)]
    python = peers_python(asked.peers)
    folder = asked.peers / asked.network
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, **write_models(asked.network, folder), "LOGS": str(folder)}
    print(f"{asked.network}, one image a request, {asked.rounds} rounds of {asked.seconds:g} s, {machine()}\n")
    compare(names, environment, python, asked.rounds, asked.seconds)


if __name__ == "__main__":
    main()
