"""The same network in timm, torchvision and efficientnet_pytorch: run as their users do, and as their ONNX export."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import Notify
from compoundnet.base.machine import torch_threads

if TYPE_CHECKING:
    from torch import nn

Run = Callable[[NDArray[np.float32]], object]
# The ways to run each: torch with two memory formats (which is faster depends on library and network), and exported.
WAYS = ("eager", "eager, channels last", "onnxruntime")


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A library: the function that builds its networks, and its names of our networks. `library`: the name shown."""

    library: str
    maker: str
    networks: dict[str, str]

    @property
    def package(self) -> str:
        return self.maker.partition(".")[0]

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def build(self, network: str) -> nn.Module:
        """Build the library's module of a network of ours, with random weights, in eval mode."""
        package, *path = self.maker.split(".")
        made: Any = importlib.import_module(package)
        for name in path:
            made = getattr(made, name)
        module: nn.Module = made(self.networks[network]).eval()
        return module


@cache
def peers() -> tuple[Peer, ...]:
    """All supported libraries, installed or not."""
    text = resources.files("compoundnet.zoo").joinpath("peers.toml").read_text(encoding="utf-8")
    return tuple(msgspec.convert(tomllib.loads(text)["peers"], list[Peer]))


def peers_of(network: str) -> tuple[Peer, ...]:
    """The libraries that have the named network."""
    return tuple(peer for peer in peers() if network in peer.networks)


def installed_peers(network: str, left_out: Notify) -> Iterator[tuple[Peer, Callable[[], nn.Module]]]:
    """Yield the installed libraries that have a network, with what builds it; `left_out` is told of the others."""
    known = peers_of(network)
    if not known:
        left_out(f"no peer is listed for {network}")
    for peer in known:
        if peer.is_installed:
            yield peer, partial(peer.build, network)
        else:
            left_out(f"{peer.package} is not installed; `pip install 'compoundnet[peers]'` installs it")


def open_peer(module: nn.Module, way: str, *, size: int, batch: int, threads: int) -> Run:
    """Return a call of a peer's module in one of `WAYS`, on float32[batch, 3, size, size]."""
    if way == "onnxruntime":
        return _exported(module, size, batch, threads)
    return _eager(module, threads, channels_last=way != "eager")


def _eager(module: nn.Module, threads: int, *, channels_last: bool) -> Run:
    import torch  # noqa: PLC0415  exported files are timed without it

    order = torch.channels_last if channels_last else torch.contiguous_format
    net: Any = module.to(memory_format=order)

    def run(images: NDArray[np.float32]) -> object:
        with torch_threads(threads), torch.inference_mode():
            return net(torch.from_numpy(images).contiguous(memory_format=order))

    return run


def _exported(module: nn.Module, size: int, batch: int, threads: int) -> Run:
    """Export with the default settings of torch's exporter, run by ONNX Runtime with all of its optimisations."""
    import torch  # noqa: PLC0415  as above

    from compoundnet.runtime.backends.onnxruntime import raw_session  # noqa: PLC0415  imports ONNX Runtime

    if "set_swish" in dir(module):  # efficientnet_pytorch: its default cannot be exported, as its README says
        plain: Any = module
        plain.set_swish(memory_efficient=False)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the exporter about the conversion
        file = Path(folder) / "peer.onnx"
        torch.onnx.export(module, (torch.zeros(batch, 3, size, size),), file, dynamo=True, verbose=False)
        session = raw_session(file, optimise=True, threads=threads)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})
