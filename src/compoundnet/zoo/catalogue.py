"""The comparison networks by name: their builders (networks.toml) and their costs (measured.toml)."""

from __future__ import annotations

import importlib
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.extras import naming_extras

if TYPE_CHECKING:
    from torch import nn


class NetworkBuilder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The builder of one network.

    Attributes:
        name: The name for commands, such as `inception-v4`.
        title: The name in the paper's Table 2.
        resolution: Side of the square input in its row of Table 2, pixels.
        builder: The function or class that makes the module, by its full name.
        arguments: The arguments of the builder.
        reference: The publication of the network, and the source of its size.
    """

    name: str
    title: str
    resolution: int
    builder: str
    arguments: dict[str, Any] = {}
    reference: str

    @property
    def source(self) -> str:
        """The library that builds it: `torchvision`, `timm` or `compoundnet`."""
        return self.builder.partition(".")[0]

    def build(self, num_classes: int = 1000) -> nn.Module:
        """Build the torch module with random weights, in training mode and without auxiliary head.

        It maps float[N, 3, H, W] to logits float[N, num_classes]. Under `torch.device("meta")` it takes no memory.

        Raises:
            CompoundNetError: `num_classes` is below 1, or the library that builds the network is not installed.
        """
        if num_classes < 1:
            raise CompoundNetError(f"num_classes must be at least 1, got {num_classes}")
        module, _, function = self.builder.rpartition(".")
        with naming_extras(f"building {self.name}", extra=None if self.source == "compoundnet" else "peers"):
            make = getattr(importlib.import_module(module), function)
        built: nn.Module = make(num_classes=num_classes, **self.arguments)
        return built


class ZooNetwork(NetworkBuilder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A comparison network and its cost at `resolution` with 1000 classes.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-adds of convolutions and fully connected layers for one image; the paper calls them FLOPS.
        classifier: The number of parameters of the last layer.
    """

    params: int
    macs: int
    classifier: int


def entries() -> dict[str, ZooNetwork]:
    """Return every comparison network by name, in the order of Table 2."""
    return dict(_entries())


def network(name: str) -> ZooNetwork:
    """Return the comparison network of that name; underscores and capitals are accepted.

    Raises:
        CompoundNetError: there is no such comparison network; the message contains the nearest names.
    """
    wanted = canonical(name)
    known = _entries()
    if wanted not in known:
        raise CompoundNetError(f"there is no comparison network named {name!r}{did_you_mean(wanted, known)}")
    return known[wanted]


@cache
def builders() -> dict[str, NetworkBuilder]:
    """Return the builder of each network, by name."""
    listed = msgspec.convert(_read("networks.toml")["networks"], list[NetworkBuilder])
    return {builder.name: builder for builder in listed}


@cache
def _entries() -> dict[str, ZooNetwork]:
    measured = _read("measured.toml")
    return {
        name: msgspec.convert({**msgspec.structs.asdict(builder), **measured[name]}, ZooNetwork)
        for name, builder in builders().items()
    }


def _read(file: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("compoundnet.zoo").joinpath(file).read_text(encoding="utf-8"))
