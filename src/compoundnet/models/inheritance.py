"""A network scaled in depth or width that starts from the weights of a pretrained one.

Narrower: the channels that contribute most are kept, the others cut (Li et al. 2017, arXiv:1608.08710). A channel's
contribution to a layer is the norm of the weights that read it times the root mean square of its values (Sun et al.
2024, Wanda, arXiv:2306.11695), summed over all layers that read it, each normalised (Fang et al. 2023, DepGraph,
arXiv:2301.12900). Shallower: blocks are dropped from the end of each stage.

Wider and deeper: Net2Net (Chen et al. 2016, arXiv:1511.05641). Channels are repeated and the weights that read them
divided; blocks are added as identities. The outputs stay the same.

Cutting changes what batch norms see, so their statistics are estimated again on images (Yu & Huang 2019,
arXiv:1903.05134, section 3.2).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models.channel_maps import (
    IMAGE,
    ChannelSpace,
    LayerPair,
    changed_skips,
    channel_map,
    paired,
    spaces_of,
)
from compoundnet.models.folder import check_target, write_folder
from compoundnet.models.lookup import open_folder
from compoundnet.models.model import Model, ModelFolder
from compoundnet.models.torch_module import load
from compoundnet.nn import ConvNet, build
from compoundnet.nn.units import ConvNorm

BATCH = 32
# The weights that read copies of a channel are divided among them unequally, by up to this share more or less: with
# equal parts the copies would get equal gradients, and stay copies.
_UNEVEN = 0.2
_SEED = 0


class Inherited(msgspec.Struct, frozen=True):
    """A network with inherited weights.

    Attributes:
        net: The torch module, in eval mode.
        same_outputs: Whether it computes what its source does on equal inputs, up to rounding.
        notes: One line each about what was cut, added or not estimated.
    """

    net: ConvNet
    same_outputs: bool
    notes: tuple[str, ...]


def inherit(source: ConvNet, target: Network, images: Sequence[Tensor] = ()) -> Inherited:
    """Build a network with the weights of another one that differs in depth, width or resolution.

    Args:
        source: The pretrained network; it is not changed.
        target: The network to build, scaled from the source's `spec` or to anything of the same stages and blocks.
        images: Preprocessed images, float[C, H, W], for the choice of channels and the statistics of batch norms.
            Without them channels are chosen by the weights alone, and the statistics are the source's.

    Returns:
        The module, and how it differs from the source.

    Raises:
        CompoundNetError: The networks differ in more than depth, width, resolution and the rules for them.
    """
    pairs = paired(source.spec, target)
    spaces = spaces_of(pairs)
    state = source.state_dict()
    levels = _levels(source, pairs, images) if images else {}
    eps = source.spec.norm.eps
    maps = {number: channel_map(space, _scores(space, state, levels, eps)) for number, space in spaces.items()}
    example = source.stem.conv.weight
    net = build(target).to(example.device, example.dtype).eval()
    made = net.state_dict()
    uneven = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for pair in pairs:
            if pair.source is not None:
                _fill(pair, made, state, maps, uneven)
        exact = _add_identities(pairs, made, target)
    net.load_state_dict(made)
    notes, same = _differences(source.spec, target, pairs, spaces, exact)
    if not same and images:
        estimate_norms(net, images)
    elif not same:
        notes.append("the statistics of batch norms are the source's, which no longer fit: give images (--sample)")
    net.preprocess, net.labels = source.preprocess, source.labels
    return Inherited(net.eval(), same, tuple(notes))


@torch.no_grad()
def estimate_norms(net: nn.Module, images: Sequence[Tensor], batch: int = BATCH) -> None:
    """Set mean and variance of every batch norm to those of the images, float[C, H, W] each, in place.

    Everything else of the network is in eval mode meanwhile, and its mode is restored.

    Raises:
        CompoundNetError: There is one image, and a norm on a map of one pixel, which has no variance.
    """
    training = net.training
    norms = [module for module in net.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        for stack in _batches(images, batch):
            net(stack)
    except ValueError as error:
        if len(images) > 1:
            raise
        raise CompoundNetError(
            "one image does not tell the variance of a batch norm on a map of one pixel: give two images or more"
        ) from error
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        net.train(training)


def scale_model(
    model: str | os.PathLike[str] | Model,
    network: Network,
    folder: str | os.PathLike[str],
    *,
    images: Iterable[str | os.PathLike[str]] = (),
    replace: bool = False,
) -> tuple[ModelFolder, Inherited]:
    """Write a model folder of a scaled network that inherits the weights of a model.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened model.
        network: The network, scaled from the model's.
        folder: The folder to write.
        images: Image files, for the choice of channels and the statistics of batch norms; a few hundred are enough.
        replace: Whether to replace an existing model folder.

    Returns:
        The new model, and how it differs from the old one.

    Raises:
        CompoundNetError: There is no such model, the network is not a scaled form of its own, an image cannot be read,
            or the folder exists.
    """
    target = Path(folder)
    check_target(target, replace)
    opened = open_folder(model)
    preprocess = opened.preprocess
    if network.resolution != opened.network.resolution:
        preprocess = msgspec.structs.replace(preprocess, size=network.resolution)
    found = inherit(load(opened), network, [preprocess(image) for image in images])
    written = write_folder(
        target,
        network,
        found.net.state_dict(),
        preprocess,
        labels=opened.labels,
        postprocess=opened.postprocess,
        readme=_readme(opened, network, found),
        replace=replace,
    )
    return written, found


def _levels(source: ConvNet, pairs: Sequence[LayerPair], images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the root mean square of each input channel of each layer that mixes channels, by the layer's name."""
    totals: dict[str, Tensor] = {}
    hooks = []

    def watch(name: str) -> None:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach()
            square = values.square().mean([0, *range(2, values.ndim)])
            totals[name] = totals.get(name, torch.zeros_like(square)) + square

        # With TensorFlow padding ConvNorm reads the weight of its convolution without calling it.
        parent = source.get_submodule(name.rpartition(".")[0])
        called = parent if isinstance(parent, ConvNorm) and parent.pad_same else source.get_submodule(name)
        hooks.append(called.register_forward_pre_hook(record))

    for name in {pair.source.name for pair in pairs if pair.mixes and pair.source is not None}:
        watch(name)
    try:
        with torch.no_grad():
            for stack in _batches(images, BATCH):
                source(stack)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total.sqrt() for name, total in totals.items()}


def _scores(space: ChannelSpace, state: Mapping[str, Tensor], levels: Mapping[str, Tensor], eps: float) -> list[float]:
    """Return how much each source channel of a space contributes to the layers that read it; `eps` of batch norms."""
    typical = _typical(space, state)
    total = torch.zeros_like(typical)
    for pair in space.readers:
        assert pair.source is not None
        read = _read_weights(pair, state, space.source_size, eps)
        value = read * (levels[pair.source.name] if levels else typical)
        total += value / value.mean().clamp(min=1e-12)
    result: list[float] = (total if space.readers else typical).tolist()
    return result


def _typical(space: ChannelSpace, state: Mapping[str, Tensor]) -> Tensor:
    """Return the size of each channel's values, as far as the weights that write them say: scale and shift of norms."""
    squares = [
        state[f"{pair.source.name}.weight"].square() + state[f"{pair.source.name}.bias"].square()
        for pair in space.writers
        if pair.source is not None and pair.source.kind == "norm"
    ]
    if not squares:  # the squeezed channels, which no norm follows
        squares = [
            state[f"{pair.source.name}.weight"].flatten(1).square().sum(1)
            for pair in space.writers
            if pair.source is not None and pair.source.kind in ("conv", "linear")
        ]
    # What a new block writes in a stage without skips has no source that would say more.
    return torch.stack(squares).mean(0).sqrt() if squares else torch.ones(space.source_size)


def _read_weights(pair: LayerPair, state: Mapping[str, Tensor], channels: int, eps: float) -> Tensor:
    """Return the norm of the weights that read each input channel, those of the norm after them included."""
    assert pair.source is not None
    name = pair.source.name
    weight = state[f"{name}.weight"].flatten(2) if pair.source.kind == "conv" else state[f"{name}.weight"][..., None]
    norm = name.removesuffix("conv") + "norm"
    if f"{norm}.running_var" in state:
        weight = weight * (state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + eps).sqrt())[:, None, None]
    groups = pair.source.groups
    squares = weight.square().sum(2).reshape(groups, -1, weight.shape[1]).sum(1)  # [groups, inputs of a group]
    return squares.reshape(channels).sqrt()


def _fill(
    pair: LayerPair,
    made: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    maps: Mapping[int, Sequence[int]],
    uneven: torch.Generator,
) -> None:
    """Write the source's weights into those of one layer."""
    assert pair.source is not None
    name, theirs = pair.layer.name, pair.source.name
    written = maps.get(pair.space)
    outputs = torch.tensor(written if written is not None and name != "classifier" else range(pair.source.out_channels))
    for leaf in ("bias", "running_mean", "running_var"):
        if f"{name}.{leaf}" in made:
            made[f"{name}.{leaf}"].copy_(state[f"{theirs}.{leaf}"][outputs])
    if f"{name}.weight" not in made:
        return
    weight = state[f"{theirs}.weight"][outputs]
    if pair.mixes and pair.inputs[0] != IMAGE:
        size = pair.layer.in_channels
        read = maps.get(pair.inputs[0])
        # Inputs without a source, of new blocks in a stage without skips, are read as the channels before them are.
        inputs = torch.tensor(read if read is not None else [index % pair.source.in_channels for index in range(size)])
        parts = _parts(inputs, pair.source.in_channels, uneven)
        weight = _read(weight, pair, inputs, parts)
    made[f"{name}.weight"].copy_(weight)


def _read(weight: Tensor, pair: LayerPair, inputs: Tensor, parts: Tensor) -> Tensor:
    """Return a weight, whose outputs are chosen already, with the inputs of these numbers, each times its part."""
    assert pair.source is not None
    groups, shape = pair.layer.groups, (1, -1) + (1,) * (weight.ndim - 2)
    own, theirs = pair.layer.in_channels // groups, pair.source.in_channels // groups
    pieces = []
    for group, piece in enumerate(weight.chunk(groups)):
        mine = slice(group * own, (group + 1) * own)
        pieces.append(piece[:, inputs[mine] - group * theirs] * parts[mine].reshape(shape).to(piece.device))
    return torch.cat(pieces)


def _parts(inputs: Tensor, count: int, uneven: torch.Generator) -> Tensor:
    """Return the part of its weight that each copy of a channel gets: those of one channel sum to 1."""
    shares = 1 + _UNEVEN * (2 * torch.rand(len(inputs), generator=uneven, dtype=torch.float64) - 1)
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, inputs, shares)
    return shares / sums[inputs]


def _add_identities(pairs: Sequence[LayerPair], made: Mapping[str, Tensor], target: Network) -> bool:
    """Make every added block return its input, by a last norm of 0; return whether all of them could be."""
    exact = True
    for block in {".".join(pair.layer.name.split(".")[:3]) for pair in pairs if pair.added}:
        inside = [pair for pair in pairs if pair.layer.name.startswith(f"{block}.")]
        addition = next((pair for pair in inside if pair.layer.kind == "add"), None)
        if addition is None:  # its stage has no skips
            exact = False
            continue
        last = [pair for pair in inside if pair.layer.kind == "norm"][-1]
        made[f"{last.layer.name}.weight"].zero_()
        made[f"{last.layer.name}.bias"].zero_()
        pooled = any(pair.layer.kind == "maxpool" for pair in inside)
        # An activation after the addition leaves the input unchanged only if it is a ReLU, whose output that is.
        changed = inside[-1] is not addition and target.activation == "silu"
        exact = exact and not pooled and not changed
    return exact


def _differences(
    source: Network, target: Network, pairs: Sequence[LayerPair], spaces: Mapping[int, ChannelSpace], exact: bool
) -> tuple[list[str], bool]:
    """Return what was cut and added, a line each, and whether the outputs are still the source's."""
    cut = sum(max(0, space.source_size - space.size) for space in spaces.values())
    grown = sum(max(0, space.size - space.source_size) for space in spaces.values())
    changes = [ours.repeats - theirs.repeats for ours, theirs in zip(target.stages, source.stages, strict=True)]
    dropped, added = -sum(min(0, change) for change in changes), sum(max(0, change) for change in changes)
    kept = sum(space.source_size for space in spaces.values()) - cut
    notes = []
    if cut:
        notes.append(f"cut {cut:,} of {cut + kept:,} channels")
    if grown:
        notes.append(f"repeated {grown:,} channels")
    if dropped:
        notes.append(f"dropped {dropped} of {source.blocks} blocks")
    if added:
        notes.append(f"added {added} block{'s' * (added > 1)}" + ("" if exact else ", not all of them identities"))
    if target.resolution != source.resolution:
        notes.append(f"takes images of {target.resolution} px instead of {source.resolution} px")
    moved = changed_skips(source, pairs)
    if moved:
        blocks = "block has" if moved == 1 else "blocks have"
        notes.append(f"{moved} {blocks} another skip than in the source")
    return notes, not (cut or dropped or moved) and exact


def _batches(images: Sequence[Tensor], batch: int) -> Iterable[Tensor]:
    """Yield the images in stacks of at most `batch`, as equal as can be: a last one of one image has no variance on a
    map of one pixel."""
    parts = -(-len(images) // batch)
    for part in range(parts):
        yield torch.stack(list(images[part * len(images) // parts : (part + 1) * len(images) // parts]))


def _readme(opened: ModelFolder, network: Network, found: Inherited) -> str:
    notes = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in found.notes)
    if not found.same_outputs:
        same = "It is to be trained before it is used."
    elif network.resolution == opened.network.resolution:
        same = "It computes what its source does."
    else:
        same = (
            f"On equal inputs it computes what its source does; at {network.resolution} px accuracy is another:"
            " `compoundnet evaluate` measures it."
        )
    return f"""# {network.name}

A model folder of compoundnet, made by `compoundnet scale` with weights inherited from {opened.name}. {same}

{notes}- Licence: that of {opened.name}.
"""
