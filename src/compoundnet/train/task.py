"""The training task: network, initial weights, images, loss and augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, first_line
from compoundnet.data import Dataset, Split
from compoundnet.data.augment import ColorJitter
from compoundnet.data.classes import check_classes
from compoundnet.data.dataset import UNKNOWN
from compoundnet.data.own_augmentation import OwnAugmentation
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import ModelFolder, Preprocess, load
from compoundnet.models.labels import check_labels
from compoundnet.nn import ConvNet, build
from compoundnet.train.balance import AdjustedCrossEntropy, choose_balance
from compoundnet.train.held_out import divide
from compoundnet.train.image_input import choose_input
from compoundnet.train.logistic import check_counts
from compoundnet.train.losses import BinaryCrossEntropy
from compoundnet.train.recipe import Recipe
from compoundnet.train.recipe_parts import Distillation
from compoundnet.train.several_labels import LabelCrossEntropy, starting_bias
from compoundnet.train.teacher import check_teacher

# Fields of a recipe that change the images or the loss of a step; a probe has none.
_OF_STEPS = ("loss", "augment", "color_jitter", "erase", "mixup", "cutmix", "repeats", "progressive")

# From logits float32[N, classes] and labels int64[N] (of mixed images the probabilities of classes float32[N, classes],
# of several labels an image float32[N, classes], 0 or 1) to the mean loss, a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]


class Task(msgspec.Struct, frozen=True):
    """A training task; `plan_task` makes one.

    Attributes:
        recipe: The training recipe.
        network: The network, with the data's classes and the recipe's changes.
        preprocess: The preprocessing of evaluation.
        start: The model whose weights training starts from; None for new weights.
        dataset: The data set's name.
        train: The training images.
        held: The held-out images for the evaluation of epochs: training images, or the validation images (`divide`);
            None if there are none.
        test: The images for the single evaluation at the end; None if there are none.
        loss: The loss that replaces cross-entropy.
        augment: The augmentation that replaces that of the recipe.
        teacher: The model that teaches it; None if there is none.
        asked_batch: The batch that was asked for, if `recipe.batch` is smaller because there are fewer images; else 0.
        whole: The training images with the held-out ones, if the recipe trains on all of them at the end (`refit`).
        calibrated: Whether a temperature is fitted on the held-out images, if there are any; see `fit_temperature` and
            `fit_label_temperature`.
        notes: Remarks for the user about what was found out about the images, and what was chosen in place of what was
            asked for.
    """

    recipe: Recipe
    network: Network
    preprocess: Preprocess
    start: ModelFolder | None
    dataset: str
    train: Split
    held: Split | None
    test: Split | None
    loss: Loss | None = None
    augment: OwnAugmentation | None = None
    teacher: ModelFolder | None = None
    asked_batch: int = 0
    whole: Split | None = None
    calibrated: bool = True
    notes: tuple[str, ...] = ()

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.train.multilabel

    @property
    def transform(self) -> TrainingTransform:
        """The transform of the training images, in the last phase if there are several."""
        return self.transform_of(self.recipe.phases - 1)

    def transform_of(self, phase: int) -> TrainingTransform:
        """Return the transform of the training images in a phase, counted from 0."""
        recipe = self.recipe.phase(phase)
        consistent = recipe.distillation is not None and recipe.distillation.view == "same"
        return TrainingTransform(
            size=recipe.train_resolution or self.preprocess.size,
            area=recipe.area,
            flip=recipe.flip,
            interpolation=self.preprocess.interpolation,
            fit=self.preprocess.fit,
            padding=self.preprocess.padding,
            augment=recipe.augment,
            jitter=ColorJitter(recipe.color_jitter) if recipe.color_jitter else None,
            second=self.teacher.preprocess.size if self.teacher is not None and consistent else 0,
        )

    def make_loss(self, device: torch.device) -> Loss:
        """Return the loss on that device: the loss of the task, or cross-entropy with the recipe's label smoothing and
        balance, or binary cross-entropy; of several labels an image `LabelCrossEntropy`."""
        if self.loss is None and self.multilabel:
            return LabelCrossEntropy(self.recipe.label_smoothing)
        if self.loss is None and self.recipe.loss == "bce":
            return BinaryCrossEntropy(self.recipe.label_smoothing)
        if self.loss is None and self.recipe.balance == "loss":
            return AdjustedCrossEntropy(self.train.counts(), self.recipe.label_smoothing).to(device)
        if self.loss is None:
            return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        # A copy, because `to` would move the caller's module.
        return copy.deepcopy(self.loss).to(device) if isinstance(self.loss, nn.Module) else self.loss

    def make_net(self) -> ConvNet:
        """Return the network in float32 on the CPU, with its initial weights; new weights depend on the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.recipe.seed)  # torch.manual_seed would seed the GPUs too
            net = build(self.network)
        if self.start is not None:
            trained = load(self.start).state_dict()
            # A model without class names knows its classes by number.
            classes = self.start.labels or tuple(map(str, range(self.start.network.num_classes)))
            kept = classes == self.train.classes and self.start.network.num_classes == len(classes)
            if not kept or self.start.postprocess.multilabel != self.multilabel:
                # Zeros, because trained features are large: random weights would start with a loss far above that of
                # chance.
                for name in ("classifier.weight", "classifier.bias"):
                    trained[name] = torch.zeros_like(net.get_parameter(name))
                if self.multilabel:
                    trained["classifier.bias"] = starting_bias(self.train)
            net.load_state_dict(trained)
        elif self.multilabel:
            net.get_parameter("classifier.bias").data.copy_(starting_bias(self.train))
        momentum = self._norm_momentum()
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d) and momentum:
                layer.momentum = momentum
        return net

    def _norm_momentum(self) -> float:
        """Follow Kornblith et al. 2019, appendix A.5: max(1 - 10 / steps an epoch, 0.9); torch's is one minus that."""
        if self.recipe.norm_momentum == "kornblith":
            return min(10 * self.recipe.batch / len(self.train), 0.1)
        return self.recipe.norm_momentum


def plan_task(
    recipe: Recipe,
    dataset: Dataset,
    *,
    network: Network | None = None,
    start: ModelFolder | None = None,
    teacher: ModelFolder | None = None,
    holdout_seed: int | None = None,
    loss: Loss | None = None,
    augment: Callable[[Image.Image], Image.Image] | None = None,
    calibrated: bool = True,
) -> Task:
    """Plan the training of `network` from scratch, or of the model `start`, on a data set.

    A checkpoint is only resumed with the same loss and augmentation, which are compared by name (a function) or by
    `repr` (an object, such as a torchvision transform or a torch module).

    Args:
        recipe: The training recipe.
        dataset: An open data set with a training split.
        network: The network to train from scratch.
        start: The model to fine-tune.
        teacher: The model whose predictions it learns besides the labels (distillation), at its own resolution. It must
            know the data's classes by name, and may know more.
        holdout_seed: Of the held-out images, in place of the recipe's seed.
        loss: In place of cross-entropy: from logits float32[N, classes] and labels int64[N] (of several labels an image
            float32[N, classes], 0 or 1) to their mean loss, a scalar. A torch module without parameters, or any
            function. Evaluations still report cross-entropy.
        augment: In place of the recipe's `augment`: from an RGB PIL image to one of the same size, after crop, resize
            and flip; a torchvision transform, or any function. See `data.own_augmentation.OwnAugmentation`.
        calibrated: Whether `train` is to calibrate the probabilities on held-out images.

    Raises:
        CompoundNetError: both or neither of `network` and `start` are given, the data has nothing to train on, or the
            loss or augmentation does not work as described.
    """
    if (network is None) == (start is None):
        raise CompoundNetError("give either --network NAME, to train from scratch, or --from MODEL, to fine-tune")
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training images; it can be evaluated on, not trained on")
    check_labels(dataset.classes, len(dataset.classes), dataset.name)
    chosen = start.network if start is not None else network
    assert chosen is not None
    if start is not None:
        chosen = chosen.replace(resolution=start.preprocess.size)
    _check_channels(chosen, start)
    recipe, preprocess, input_notes = choose_input(recipe, dataset.split("train"), chosen, start)
    size = preprocess.size
    changes = {"dropout": recipe.phase(recipe.phases - 1).dropout, "survival": recipe.survival}
    chosen = chosen.replace(
        num_classes=len(dataset.classes),
        resolution=size,
        **{name: value for name, value in changes.items() if value is not None},
    )
    _check_frozen(recipe, chosen, start)
    own_range = dataset.split("train").reading.range or (start.preprocess.range if start is not None else None)
    reading, found_range = dataset.reading(
        value_range=recipe.range or own_range, allow_truncated=recipe.allow_truncated
    )
    dataset = dataset.read_with(reading)
    preprocess = msgspec.structs.replace(preprocess, range=reading.range or preprocess.range)
    seed = recipe.seed if holdout_seed is None else holdout_seed
    recipe, train, held, whole, held_notes = divide(recipe, dataset, seed, calibrated=calibrated)
    notes: list[str | None] = [*input_notes, _enlarged(recipe, size), found_range, *held_notes]
    if whole is not None and held is not None:
        notes.append(
            f"refit: when {len(held):,} held-out images have decided, all {len(whole):,} are trained on from the start,"
            " so that training takes about twice the time"
        )
    fewer = len(train) < len(dataset.split("train"))
    check_classes(train, dataset.name, ", or hold fewer out (--set minival=0)" if fewer else "")
    if recipe.classifier == "probe":
        _check_probe(recipe, train, start, own=loss is not None or augment is not None or teacher is not None)
    recipe, unequal = choose_balance(recipe, train, own_loss=loss is not None or recipe.loss == "bce")
    notes.append(unequal)
    recipe = _taught(recipe, teacher, train)
    _check_mixing(recipe, train, own_loss=loss is not None)
    if loss is not None:
        _check_loss(loss, recipe, len(dataset.classes), dataset.multilabel)
    own = OwnAugmentation(augment) if augment is not None else None
    if own is not None:
        if recipe.augment is not None:
            raise CompoundNetError(
                "the recipe has an augmentation of its own: use recipe.replace(augment=None) together with yours"
            )
        own.check(size)
    fitting, asked_batch = _fitting_batch(recipe, len(train)), 0
    if fitting != recipe.batch and recipe.has_steps:
        notes.append(
            f"batch {fitting} instead of {recipe.batch}: there are only {len(train):,} training images, and an epoch"
            " should have at least two steps"
        )
        recipe, asked_batch = recipe.replace(batch=fitting), recipe.batch
    test = dataset.splits.get(dataset.evaluation) if dataset.evaluation != "train" else None
    return Task(
        recipe=recipe,
        network=chosen,
        preprocess=preprocess,
        start=start,
        dataset=dataset.name,
        train=train,
        held=held,
        test=None if test is None or (test.labels == UNKNOWN).any() else test,
        loss=loss,
        augment=own,
        teacher=teacher,
        asked_batch=asked_batch,
        whole=whole,
        calibrated=calibrated,
        notes=tuple(filter(None, notes)),
    )


def _enlarged(recipe: Recipe, size: int) -> str | None:
    """Return a remark if training images are larger than those of evaluation."""
    largest = max(recipe.phase(phase).train_resolution or size for phase in range(recipe.phases))
    if largest <= size:
        return None
    setting = "progressive.resolution" if recipe.progressive is not None else "train_resolution"
    return (
        f"training images have up to {largest} px, and those of evaluation {size} px: --set resolution={largest} or"
        f" less in {setting} makes them alike"
    )


def _check_channels(network: Network, start: ModelFolder | None) -> None:
    """Raise CompoundNetError if the network does not take RGB images, as all images are read."""
    if network.in_channels == 3:
        return
    name, instead = (network.name, "a network") if start is None else (start.name, "a model")
    count = f"{network.in_channels} channel{'s' * (network.in_channels != 1)}"
    raise CompoundNetError(
        f"{name} takes images of {count}, and training reads all images as RGB, grey ones too: give {instead} of 3"
        " channels"
    )


def _check_frozen(recipe: Recipe, network: Network, start: ModelFolder | None) -> None:
    """Raise CompoundNetError if the network has fewer stages than are frozen, or new weights."""
    if recipe.frozen_stages > len(network.stages):
        raise CompoundNetError(
            f"frozen_stages = {recipe.frozen_stages}, and {network.name} has {len(network.stages)} stages: give that"
            " many or fewer"
        )
    if recipe.frozen_stages and start is None:
        raise CompoundNetError(
            "frozen_stages keeps the weights of a pretrained model: give --from MODEL, or --set frozen_stages=0"
        )


def _taught(recipe: Recipe, teacher: ModelFolder | None, train: Split) -> Recipe:
    """Return the recipe with how the teacher teaches. Raises CompoundNetError if it cannot teach these images."""
    if teacher is None:
        if recipe.distillation is not None:
            raise CompoundNetError(
                "the recipe has a distillation and there is no teacher: give --teacher MODEL, or --set"
                " distillation=none"
            )
        return recipe
    check_teacher(teacher, train)
    return recipe if recipe.distillation is not None else recipe.replace(distillation=Distillation())


def _check_mixing(recipe: Recipe, train: Split, *, own_loss: bool) -> None:
    """Raise CompoundNetError if the recipe mixes images whose labels or loss cannot be mixed."""
    last = recipe.phase(recipe.phases - 1)
    mixing = [name for name in ("mixup", "cutmix") if getattr(recipe, name) or getattr(last, name)]
    if mixing and train.multilabel:
        raise CompoundNetError(
            f"{mixing[0]} mixes images of one class each, and these have several labels: use --set {mixing[0]}=0"
        )
    if mixing and own_loss:
        raise CompoundNetError(
            f"{mixing[0]} needs a loss of mixed classes: use recipe.replace({mixing[0]}=0) together with a loss of your"
            " own"
        )
    if own_loss and recipe.loss == "bce":
        raise CompoundNetError('use recipe.replace(loss="cross-entropy") together with a loss of your own')


def _check_probe(recipe: Recipe, train: Split, start: ModelFolder | None, *, own: bool) -> None:
    """Raise CompoundNetError if a classifier cannot start from a probe, or the recipe asks for what a probe ignores."""
    if start is None:
        raise CompoundNetError(
            "a probe reads the features of a pretrained model: give --from MODEL; those of new weights mean nothing"
        )
    check_counts(train.counts(), train.classes)
    if recipe.has_steps:
        return
    if own:
        raise CompoundNetError(
            "a probe is fitted by cross-entropy to images as they are: a loss or augmentation of your own, and a"
            " teacher, need steps (--set epochs=...)"
        )
    defaults = {field.name: field.default for field in msgspec.structs.fields(Recipe)}
    unused = [name for name in _OF_STEPS if getattr(recipe, name) != defaults[name]]
    if unused:
        raise CompoundNetError(
            f"a probe is fitted by cross-entropy to images as they are: {', '.join(unused)} of the recipe"
            f" need{'s' * (len(unused) == 1)} steps (--set epochs=...)"
        )
    if recipe.minival:
        raise CompoundNetError(
            f"minival = {recipe.minival:g} holds images out, and a probe has no use for them: it is judged and"
            " calibrated by cross-validation; use --set minival=0"
        )


def _fitting_batch(recipe: Recipe, images: int) -> int:
    """Return the recipe's batch, or one that divides fewer images than that into two steps."""
    if recipe.batch <= images:
        return recipe.batch
    parts = recipe.accumulate
    return max(1, -(-images // (2 * parts))) * parts


def _check_loss(loss: Loss, recipe: Recipe, classes: int, multilabel: bool) -> None:
    """Test a loss on two images. Raises CompoundNetError if it cannot be used for training."""
    if recipe.balance == "loss":
        raise CompoundNetError(
            'balance = "loss" changes the cross-entropy: use recipe.replace(balance="none") with a loss of your own'
        )
    if recipe.label_smoothing:
        raise CompoundNetError(
            "the recipe's label_smoothing is part of cross-entropy: use recipe.replace(label_smoothing=0) together with"
            " a loss of your own"
        )
    if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
        raise CompoundNetError(
            "a loss must not have parameters: they would be neither trained nor saved; keep constants as buffers"
        )
    logits = torch.zeros(2, classes, requires_grad=True)
    tried = copy.deepcopy(loss).cpu() if isinstance(loss, nn.Module) else loss
    labels = torch.zeros(2, classes) if multilabel else torch.arange(2) % classes
    try:
        value = tried(logits, labels)
    except Exception as error:  # the user's code
        raise CompoundNetError(
            f"the loss fails on logits float32[2, {classes}] and labels {'float32' if multilabel else 'int64'}"
            f"{list(labels.shape)}: {first_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
        got = f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CompoundNetError(f"a loss must return a scalar tensor that depends on the logits, got {got}")
