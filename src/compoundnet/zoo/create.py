"""`create_model`: a network by its name in timm or torchvision, with the keywords of timm."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal, overload

from compoundnet import arch, nn
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models import catalogue, load
from compoundnet.zoo.catalogue import entries

if TYPE_CHECKING:
    from compoundnet.nn import ConvNet, FeaturePyramid
    from compoundnet.nn.net import GlobalPool


@overload
def create_model(
    model_name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: Literal[False] = False,
    out_indices: None = None,
) -> ConvNet: ...


@overload
def create_model(
    model_name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> FeaturePyramid: ...


def create_model(
    model_name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet | FeaturePyramid:
    """Create a torch module by a name of timm, torchvision or this project, in training mode as timm does.

    The network is always that of this project, whichever library the name comes from: the EfficientNets have TensorFlow
    padding and the authors' batch norm, with and without timm's `tf_`.

    Args:
        model_name: `efficientnet_b0`, `tf_efficientnet_lite0`, `mobilenetv2_100`, `resnet50`, `efficientnet-b0`; or
            the name of a pretrained model, which includes its training: `tf_efficientnet_b0.ns_jft_in1k`.
        pretrained: Whether to load weights (`compoundnet models list` lists them), fetching them if necessary.
        num_classes: Length of the logits. A number other than that of the weights gives a new random classifier, 0
            none.
        in_chans: Channels of the images. A number other than that of the weights gives a stem adapted from the
            pretrained one.
        drop_rate: Dropout before the classifier, a probability.
        drop_path_rate: Stochastic depth, the probability that the deepest block is dropped.
        global_pool: "avg", "max", or "" for none, which needs num_classes=0.
        features_only: Whether to create a FeaturePyramid instead of a classifier.
        out_indices: Levels of the pyramid, negative ones from the end; all of them by default.

    Raises:
        CompoundNetError: there is no such network, with the nearest names; it does not consist of stages; no
            weights are available for it; or a value is impossible.
    """
    network = find_by_any_name(model_name)
    options = {
        "num_classes": num_classes,
        "in_chans": in_chans,
        "drop_rate": drop_rate,
        "drop_path_rate": drop_path_rate,
        "global_pool": global_pool,
        "features_only": features_only,
        "out_indices": out_indices,
    }
    if not pretrained:
        return nn.build(network, **options)  # type: ignore[call-overload, no-any-return]  # build checks them
    weights = catalogue.entry(model_name) or catalogue.find(network.name)
    net: ConvNet | FeaturePyramid = load(weights.name, **options)  # type: ignore[call-overload]  # load checks them
    return net.train()


def find_by_any_name(name: str) -> arch.Network:
    """Find a network of stages by a name of timm, torchvision, a pretrained model or the catalogue.

    Raises:
        CompoundNetError: there is no such network, with the nearest names; or it is a comparison network.
    """
    networks, names = arch.networks(), _library_names()
    wanted = arch.canonical(name)
    ours = wanted if wanted in networks else names.get(name.strip().lower(), wanted)
    if ours in networks:
        return networks[ours]
    weights = catalogue.entry(name)
    if weights is not None:
        return weights.build_network()
    if ours in entries():
        raise CompoundNetError(
            f"{name} is a comparison network that {entries()[ours].source} builds:"
            f" compoundnet.zoo.network({ours!r}).build(num_classes) makes its torch module"
        )
    raise CompoundNetError(f"there is no model named {name!r}{did_you_mean(name.lower(), [*names, *networks])}")


@cache
def _library_names() -> dict[str, str]:
    """Return the name of our network for each name in peers.toml: other libraries' names of the same networks."""
    text = resources.files("compoundnet.zoo").joinpath("peers.toml").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for peer in tomllib.loads(text)["peers"]:
        for ours, theirs in peer["networks"].items():
            found.setdefault(theirs, ours)  # the networks of the catalogue come first in the file
    return found
