"""`load`: the torch module of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from compoundnet.base import CompoundNetError
from compoundnet.models.checkpoints import check_values
from compoundnet.models.lookup import open_folder
from compoundnet.models.model import Model
from compoundnet.models.weights_files import read_safetensors
from compoundnet.nn import ConvNet, FeaturePyramid, build
from compoundnet.nn.net import GlobalPool

_STEM = "stem.conv.weight"


@overload
def load(
    model: str | os.PathLike[str] | Model,
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
def load(
    model: str | os.PathLike[str] | Model,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> FeaturePyramid: ...


@overload
def load(
    model: str | os.PathLike[str] | Model,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet | FeaturePyramid: ...


def load(
    model: str | os.PathLike[str] | Model,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet | FeaturePyramid:
    """Load the pretrained torch module of a model, in eval mode, on the CPU.

    The module has the preprocessing and labels of the model: `net(net.preprocess("cat.jpg")[None])` are logits, and
    `net.labels` names them. With another number of classes there are no labels.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened model.
        num_classes: A different number gives a classifier with new random weights; 0 omits the classifier.
        in_chans: A different number gives a stem adapted from the pretrained one (`adapt_stem`).
        drop_rate: Dropout before the classifier, as for `build`.
        drop_path_rate: Stochastic depth, as for `build`.
        global_pool: "avg", "max", or "" for none, as for `build`.
        features_only: Whether to return the trunk as a FeaturePyramid.
        out_indices: Levels of the pyramid; all of them by default.

    Raises:
        CompoundNetError: There is no such model, its weights cannot be read or are not finite, or a value is out of
            range.
    """
    if num_classes is not None and num_classes < 0:
        raise CompoundNetError(f"num_classes must be 0 (no classifier) or more, got {num_classes}")
    model = open_folder(model)
    state = read_safetensors(model.weights)
    check_values(state, str(model.weights))
    if in_chans is not None and in_chans != model.network.in_channels:
        state[_STEM] = adapt_stem(state[_STEM], in_chans)
    with torch.device("meta"):  # every tensor comes from the file: none is allocated and initialised first
        net = build(
            model.network,
            num_classes=0 if num_classes == 0 else None,  # another number: set after loading the weights
            in_chans=in_chans,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            global_pool=global_pool,
            features_only=features_only,
            out_indices=out_indices,
        )
    wanted = net.state_dict().keys()
    net.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, assign=True)
    if isinstance(net, ConvNet) and num_classes is not None and num_classes != net.num_classes:
        net.reset_classifier(num_classes)
    net.preprocess = model.preprocess
    net.labels = model.labels if net.spec.num_classes == model.network.num_classes else None
    return net.eval()


def adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """Return the stem's weight float[out, channels, k, k] for another number of input channels.

    With more channels, the old ones are repeated cyclically and divided by the number of their repeats; with fewer,
    each is an equal fraction of their sum. The sum over channels is preserved, so a grey image gives the response of
    its RGB version.
    """
    channels = weight.shape[1]
    if in_chans < 1:
        raise CompoundNetError(f"in_chans must be at least 1, got {in_chans}")
    if in_chans < channels:
        return weight.sum(dim=1, keepdim=True).div(in_chans).repeat(1, in_chans, 1, 1)
    sources = [index % channels for index in range(in_chans)]
    times = weight.new_tensor([sources.count(source) for source in sources])
    return weight[:, sources] / times[:, None, None]
