"""What is to be trained on what: the network as the recipe wants it, its weights to start from, and the pictures."""

from __future__ import annotations

import msgspec
import torch

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset, Split
from compoundnet.data.class_folders import check_classes
from compoundnet.data.dataset import UNKNOWN
from compoundnet.data.holdout import hold_out
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import ModelFolder, Preprocess, load
from compoundnet.nn import ConvNet, build
from compoundnet.train.recipe import Recipe


class Task(msgspec.Struct, frozen=True):
    """`held` are the training pictures that epochs are judged by, None where there are none; `test` is evaluated once,
    at the end. `start` is the model whose weights training starts from."""

    recipe: Recipe
    network: Network
    preprocess: Preprocess
    start: ModelFolder | None
    dataset: str
    train: Split
    held: Split | None
    test: Split | None

    @property
    def transform(self) -> TrainingTransform:
        """What training pictures go through."""
        return TrainingTransform(
            size=self.preprocess.size,
            area=self.recipe.area,
            flip=self.recipe.flip,
            interpolation=self.preprocess.interpolation,
            augment=self.recipe.augment,
        )

    def make_net(self) -> ConvNet:
        """The network in float32 on the CPU, with the weights that training starts from: the seed decides new ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            net = build(self.network)
        if self.start is not None:
            trained = load(self.start).state_dict()
            classes = self.start.labels or self.train.classes
            if classes != self.train.classes or self.start.network.num_classes != len(classes):
                # Zeros: trained features are large, and random weights on them start from a loss far above chance.
                for name in ("classifier.weight", "classifier.bias"):
                    trained[name] = torch.zeros_like(net.get_parameter(name))
            net.load_state_dict(trained)
        momentum = self._norm_momentum()
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d) and momentum:
                layer.momentum = momentum
        return net

    def _norm_momentum(self) -> float:
        """Kornblith et al. 2019, appendix A.5: TensorFlow's max(1 - 10 / steps an epoch, 0.9), so one minus it here."""
        if self.recipe.norm_momentum == "kornblith":
            return min(10 * self.recipe.batch / len(self.train), 0.1)
        return self.recipe.norm_momentum


def plan_task(
    recipe: Recipe, dataset: Dataset, *, network: Network | None = None, start: ModelFolder | None = None
) -> Task:
    """The task of training `network` from scratch, or the model `start`, on a data set.

    Raises CompoundNetError where both or neither is given, or the data has nothing to train on.
    """
    if (network is None) == (start is None):
        raise CompoundNetError("give either --network NAME, to train from scratch, or --from MODEL, to fine-tune")
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training pictures; it can be evaluated on, not trained on")
    chosen = start.network if start is not None else network
    assert chosen is not None
    size = recipe.resolution or (start.preprocess.size if start is not None else chosen.resolution)
    changes = {"dropout": recipe.dropout, "survival": recipe.survival}
    chosen = chosen.replace(
        num_classes=len(dataset.classes),
        resolution=size,
        **{name: value for name, value in changes.items() if value is not None},
    )
    train, held = dataset.split("train"), None
    if recipe.minival:
        train, held = hold_out(train, recipe.minival, recipe.seed)
    check_classes(train, dataset.name, ", or hold fewer out (--set minival=0)" if held else "")
    test = dataset.splits.get(dataset.evaluation) if dataset.evaluation != "train" else None
    return Task(
        recipe, chosen, _preprocess(recipe, size, start), start, dataset.name, train, held,
        None if test is None or (test.labels == UNKNOWN).any() else test,
    )  # fmt: skip


def _preprocess(recipe: Recipe, size: int, start: ModelFolder | None) -> Preprocess:
    """The model's, or the authors', at the recipe's size and crop."""
    rule = Preprocess.authors(size)
    base = rule if start is None else start.preprocess
    crop = base.crop if size == base.size else rule.crop
    return Preprocess(size, recipe.crop or crop, base.interpolation, base.mean, base.std)
