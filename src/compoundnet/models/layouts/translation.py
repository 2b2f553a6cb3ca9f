"""Translation of weights between our layout and others: `from_layout`, `to_layout`. Nothing is lost or guessed."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models.layouts import keras, lukemelas, own, tensorflow, timm, torchvision, transformers
from compoundnet.models.layouts.base import Layout, Pair
from compoundnet.models.tensors import check_shapes, check_tensors, state_shapes

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        timm.TIMM,
        timm.TIMM_NATIVE,
        torchvision.LAYOUT,
        lukemelas.LAYOUT,
        transformers.LAYOUT,
        keras.LAYOUT,
        tensorflow.LAYOUT,
        own.LAYOUT,
    )
}


def layout(name: str) -> Layout:
    """The layout of that name. Raises CompoundNetError with the nearest names."""
    if name not in LAYOUTS:
        raise CompoundNetError(f"there is no layout named {name!r}{did_you_mean(name, LAYOUTS)}")
    return LAYOUTS[name]


def from_layout(
    state: Mapping[str, Tensor], network: Network, layout: Layout | str, source: str = "the checkpoint"
) -> tuple[Network, dict[str, Tensor]]:
    """Translate weights from a library's layout; return their network, and the state that `build(network)` loads.

    The returned network has the library's padding and norm, and the classes and input channels of the weights. A state
    without a classifier needs a network with num_classes 0. Raises a CompoundNetError that lists missing, extra and
    misshapen tensors; `source` names the weights in it. `layout` is a name of `LAYOUTS`, or a layout.
    """
    import torch  # noqa: PLC0415  the list of layouts needs no torch

    layout = _found(layout)
    network = _fitted(state, layout.adapt(network), layout)
    pairs = layout.pairs(network)
    ours = state_shapes(network)
    theirs = {pair.theirs: permuted(ours[pair.ours], _inverse(pair.axes)) for pair in pairs}
    kept = {name: tensor for name, tensor in state.items() if not re.fullmatch(layout.ignored, name)}
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    check_shapes(shapes, theirs, f"{source} does not hold {network.name} in the layout {layout.name}")
    found = {pair.ours: _moved(kept[pair.theirs], pair.axes) for pair in pairs if pair.theirs in kept}
    return network, {name: found[name] if name in found else torch.tensor(0) for name in ours}


def to_layout(state: Mapping[str, Tensor], network: Network, layout: Layout | str) -> dict[str, Tensor]:
    """Translate the state of `build(network)` to the state that the library's model of this network loads (strictly).

    `layout` is a name of `LAYOUTS`, such as "timm", or a layout.

    torchvision's MNASNet also requires a version, which the result carries in `_metadata`, as torch's states do; a
    safetensors file loses it. Raises CompoundNetError if the library's model would compute something else (padding, eps
    of the norm), or `state` does not belong to this network.
    """
    import torch  # noqa: PLC0415  as above

    layout = _found(layout)
    _check_same_function(network, layout)
    check_tensors(network, {name: tuple(tensor.shape) for name, tensor in state.items()}, "the weights to lay out")
    theirs = OrderedDict(
        (pair.theirs, _moved(state[pair.ours], _inverse(pair.axes)) if pair.ours in state else torch.tensor(0))
        for pair in layout.pairs(network)
    )
    if layout.version is not None:
        theirs._metadata = {"": {"version": layout.version}}  # type: ignore[attr-defined]  # where torch reads it
    return theirs


def _found(given: Layout | str) -> Layout:
    return layout(given) if isinstance(given, str) else given


def _fitted(state: Mapping[str, Tensor], network: Network, layout: Layout) -> Network:
    """The network with the classes and input channels of the state, if the state has them."""
    pairs = {pair.ours: pair for pair in layout.pairs(network.replace(num_classes=network.num_classes or 1))}
    match _shape_as_ours(state, pairs["classifier.weight"]):
        case (int(classes), _) if classes > 0:
            network = network.replace(num_classes=classes)
    match _shape_as_ours(state, pairs["stem.conv.weight"]):
        case (_, int(channels), _, _) if channels > 0:
            network = network.replace(in_channels=channels)
    return network


def _shape_as_ours(state: Mapping[str, Tensor], pair: Pair) -> tuple[int, ...]:
    """The shape in our order; () if the state lacks the tensor or it has a different number of axes."""
    shape = tuple(state[pair.theirs].shape) if pair.theirs in state else ()
    return permuted(shape, pair.axes) if pair.axes is None or len(pair.axes) == len(shape) else ()


def _check_same_function(network: Network, layout: Layout) -> None:
    theirs = layout.adapt(network)
    differences = []
    if theirs.padding != network.padding:
        differences.append(f"padding {theirs.padding} instead of {network.padding}")
    if theirs.norm.eps != network.norm.eps:
        differences.append(f"batch norm eps {theirs.norm.eps:g} instead of {network.norm.eps:g}")
    if differences:
        raise CompoundNetError(
            f"{network.name} would give other logits in {layout.library}, which has {' and '.join(differences)}; "
            f"it can take weights trained with these"
        )


def _moved(tensor: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    return tensor if axes is None else tensor.permute(axes).contiguous()


def permuted(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return a shape in another order of axes; unchanged if it has a different number of them."""
    return shape if axes is None or len(axes) != len(shape) else tuple(shape[axis] for axis in axes)


def _inverse(axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(sorted(range(len(axes)), key=axes.__getitem__))
