"""A training recipe as a value: everything that determines the weights, except data, network and machine."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec

from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError, check, decode_toml, did_you_mean, limits, read_toml
from compoundnet.base.values import readable_error
from compoundnet.data.augment import AutoAugment, RandAugment, TrivialAugment
from compoundnet.train.recipe_parts import (
    SGD,
    AdamW,
    Constant,
    Cosine,
    Distillation,
    Progressive,
    RecipePart,
    RMSProp,
    Staircase,
)

# What torch's generators take.
_SEEDS = 2**63
# What PyTorch, timm, Keras, Lightning, transformers and ultralytics call the fields.
ELSEWHERE = {
    other: ours
    for ours, others in {
        "augment": "aa auto_augment augmentation augmentations rand_augment randaugment autoaugment",
        "accumulate": "accumulate_grad_batches gradient_accumulation gradient_accumulation_steps grad_accum_steps",
        "area": "scale rrc_scale crop_area",
        "color_jitter": "jitter colorjitter hsv_s hsv_v",
        "balance": "class_weight class_weights weighted_sampler weightedrandomsampler oversample oversampling"
        " undersample balanced class_balance imbalance pos_weight sample_weight cls_pw",
        "batch": "batch_size bs b per_device_train_batch_size train_batch_size",
        "checkpointing": "grad_checkpointing gradient_checkpointing",
        "classifier": "linear_probe head_init lp_ft",
        "clip_norm": "clip_grad grad_clip max_grad_norm gradient_clip_val clipnorm",
        "compile": "torchcompile torch_compile",
        "crop": "crop_pct center_crop crop_fraction",
        "cutmix": "cutmix_alpha",
        "distillation": "distill kd teacher knowledge_distillation",
        "dropout": "drop drop_rate dropout_rate",
        "ema_decay": "ema model_ema model_ema_decay",
        "epochs": "num_epochs n_epochs max_epochs num_train_epochs epoch",
        "erase": "reprob random_erase random_erasing erasing re_prob",
        "flip": "hflip fliplr horizontal_flip",
        "frozen_epochs": "freeze_epochs freeze_backbone",
        "frozen_stages": "freeze freeze_layers freeze_stages freeze_until",
        "label_smoothing": "smoothing smooth label_smooth label_smoothing_factor",
        "layer_decay": "llrd layer_wise_lr_decay",
        "lr": "learning_rate lr0 base_lr initial_learning_rate",
        "loss": "bce bce_loss criterion loss_type",
        "minival": "val_split validation_split valid_pct val_pct validation val holdout held_out",
        "mixup": "mixup_alpha",
        "optimizer.kind": "opt optim",
        "optimizer.momentum": "momentum",
        "patience": "early_stopping early_stop patience_epochs",
        "refit": "refit_full train_on_all retrain",
        "deterministic": "cudnn_deterministic use_deterministic_algorithms",
        "precision": "amp fp16 bf16 half mixed_precision dtype",
        "repeats": "aug_repeats ra_reps ra_sampler repeated_aug",
        "resolution": "image_size img_size imgsz input_size size",
        "schedule.kind": "sched scheduler lr_scheduler lr_scheduler_type",
        "seed": "random_seed random_state",
        "select": "save_best save_best_only load_best_model_at_end",
        "survival": "drop_path drop_path_rate drop_connect_rate stochastic_depth survival_prob",
        "train_resolution": "train_size train_crop_size",
        "warmup_epochs": "warmup warmup_steps warmup_ratio",
        "weight_decay": "wd l2",
    }.items()
    for other in others.split()
}


class Recipe(RecipePart, frozen=True):
    """The fields of a training recipe. An epoch is one pass over all training images, in steps
    of equal size up to one image.

    Attributes:
        name: The name of the recipe.
        about: Its purpose.
        source: The source of its numbers.
        batch: Largest number of images per step, over all processes and accumulated parts together.
        lr: Learning rate for `lr_batch` images per step.
        optimizer: RMSProp(), SGD() or AdamW().
        schedule: Staircase(), Cosine() or Constant().
        epochs: Length of training in epochs; 0 if `steps` is given.
        steps: Length of training in steps; 0 if `epochs` is given.
        accumulate: Number of parts into which a process divides its images of a batch, to save memory.
        lr_batch: `lr` is multiplied by `batch` / `lr_batch`; 0 leaves it unchanged.
        warmup_epochs: Epochs in which the learning rate rises from 0; the schedule counts from the start all the same.
        weight_decay: Weight decay of all parameters except those of batch norm; coupled (in the gradient) except in
            AdamW.
        decay_bias: Whether weight decay also applies to biases.
        layer_decay: The learning rate of each block is this times that of the block after it.
        classifier: How the classifier of a model starts: "new" from zeros, or as it is if the classes are the model's;
            "probe" from logistic regression on the model's features of the training images (`fit_probe`). With "probe"
            both `epochs` and `steps` may be 0: then the probe is the result, and the trunk stays as it is.
        frozen_epochs: Epochs at the start in which only the classifier is trained, at `lr`, on the loaded trunk.
        frozen_stages: How many of the first stages stay as they were loaded in all of the training, and the stem with
            them; 0: none of either.
        clip_norm: Limit of the gradient's L2 norm over all parameters; 0 does not clip.
        balance: What makes up for classes of unequal size: "sampler" draws all classes equally often, "loss" adjusts
            the loss for their shares of the images (`AdjustedCrossEntropy`), "none" does nothing, "auto" chooses by the
            counts (`choose_balance`).
        loss: "cross-entropy", or "bce": binary cross-entropy, in which each class is a yes or no of its own, summed
            over the classes (Wightman et al. 2021, arXiv:2110.00476); with mixup and CutMix, all classes that are mixed
            are present (target 1). Images with several labels have binary cross-entropy in any case.
        label_smoothing: Fraction of a target that is spread evenly over all classes.
        ema_decay: Decay of the moving average of weights and statistics, which is used for evaluation; 0 keeps none.
        norm: "train", or "frozen": batch norm's statistics stay as they were loaded.
        norm_momentum: In torch's sense. 0: the network's; "kornblith": min(10 / steps of an epoch, 0.1).
        sync_norm: Compute batch norm's statistics over the batches of all processes.
        survival: Survival probability of the last block in stochastic depth; None: that of the network.
        dropout: Dropout probability before the classifier; None: that of the network.
        fit: How an image that is not square becomes square, as in `Preprocess`: "crop", "pad" or "squash"; None: that
            of the model; "auto": that of the model, or pad or squash for images of which a crop would lose too much.
        resolution: Side of the input, pixels; None: that of the network or model; "auto": less in fine-tuning on small
            images.
        train_resolution: Side of the training images, pixels, if it differs; None: `resolution`. Less than that saves
            time, and random crops, which are enlarged, then show objects as large as in evaluation (Touvron et al.
            2019, arXiv:1906.06423).
        crop: Crop in evaluation, as in `Preprocess`; None: that of the model, or the authors' rule, or 1 if images are
            padded or squashed; "auto": 1 for small images too.
        area: Lowest and highest area of a training crop, as a fraction of the image's.
        flip: Swap left and right in half of the training images.
        augment: AutoAugment(), RandAugment(), TrivialAugment() or None; applied after crop and flip.
        color_jitter: Random brightness, contrast and saturation, each a factor of 1 plus or minus at most this (timm);
            applied after `augment`.
        erase: Probability with which a random rectangle of a training image, of 2 to 33 % of its area, becomes noise
            (random erasing, Zhong et al. 2017, arXiv:1708.04896; as timm's `pixel`).
        mixup: Mixes the images of a batch in pairs, at shares drawn from Beta(`mixup`, `mixup`) (Zhang et al. 2017,
            arXiv:1710.09412); 0 does not.
        cutmix: Pastes a rectangle of another image of the batch, of an area drawn from Beta(`cutmix`, `cutmix`) (Yun et
            al. 2019, arXiv:1905.04899); 0 does not. If `mixup` is given too, each batch has one of them by chance.
        repeats: How often an image is drawn in a row, each time with another crop and augmentation (repeated
            augmentation, Hoffer et al. 2020, arXiv:1901.09335); an epoch then has 1 / `repeats` of the images.
        progressive: Progressive(): phases with a resolution and a regularisation of their own; None: there are none.
        distillation: Distillation(): how to learn from the teacher of `plan_task`; None: its defaults, if there is one.
        precision: Precision of activations; weights are float32.
        channels_last: Memory format of weights and activations.
        compile: Use torch.compile.
        deterministic: Use algorithms on a GPU that give the same result each time, which are slower; those of the CPU
            always do.
        checkpointing: Recompute activations in the backward pass, for less memory.
        minival: Training images held out for decisions: a count, or a fraction below 1; "auto": the validation images
            beside test images in their place, else a tenth, if they decide anything (`choose_held_out`).
        evaluate_epochs: Epochs between evaluations on the held-out images.
        select: "best": the weights of the best evaluation (top-1 accuracy, or the mean per class if training is
            balanced); "last": those of the last step.
        patience: Evaluations without improvement before training stops; 0 never stops early.
        refit: When the held-out images have decided, train once more from the start, on these images too (`refit`).
        save_minutes: Minutes between checkpoints.
        save_epochs: Epochs after which a checkpoint is saved in any case.
        keep: Number of checkpoints that are kept during training.
        keep_finished: Checkpoints that are kept when the model is written: "last" is what `--resume` with more epochs
            needs; "all" of the `keep`, or "none".
        max_bad: Number of unreadable images tolerated in an epoch, among the held-out and among the test images.
        allow_truncated: Use truncated and damaged images as far as they can be decoded, instead of counting them as
            unreadable.
        range: The values that become black and white in images with more than 8 bits a value; None: what the files
            state, or what the values suggest.
        seed: Seed of new weights, order, augmentation, dropout and stochastic depth, and of the choice of held-out
            images.
    """

    name: str
    about: str
    source: str
    batch: int
    lr: float
    optimizer: RMSProp | SGD | AdamW
    schedule: Staircase | Cosine | Constant
    epochs: float = 0
    steps: int = 0
    accumulate: int = 1
    lr_batch: int = 0
    warmup_epochs: float = 0
    weight_decay: float = 0
    decay_bias: bool = True
    layer_decay: float = 1
    classifier: Literal["new", "probe"] = "new"
    frozen_epochs: float = 0
    frozen_stages: int = 0
    clip_norm: float = 0
    balance: Literal["none", "sampler", "loss", "auto"] = "none"
    loss: Literal["cross-entropy", "bce"] = "cross-entropy"
    label_smoothing: float = 0
    ema_decay: float = 0
    norm: Literal["train", "frozen"] = "train"
    norm_momentum: float | Literal["kornblith"] = 0
    sync_norm: bool = True
    survival: float | None = None
    dropout: float | None = None
    fit: Literal["crop", "pad", "squash", "auto"] | None = "auto"
    resolution: int | Literal["auto"] | None = None
    train_resolution: int | None = None
    crop: float | Literal["auto"] | None = None
    area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    augment: AutoAugment | RandAugment | TrivialAugment | None = None
    color_jitter: float = 0
    erase: float = 0
    mixup: float = 0
    cutmix: float = 0
    repeats: int = 1
    progressive: Progressive | None = None
    distillation: Distillation | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    checkpointing: bool = False
    minival: float | Literal["auto"] = 0
    evaluate_epochs: int = 1
    select: Literal["best", "last"] = "last"
    patience: int = 0
    refit: bool = False
    save_minutes: float = 10
    save_epochs: int = 1
    keep: int = 2
    keep_finished: Literal["last", "all", "none"] = "last"
    max_bad: int = 0
    allow_truncated: bool = False
    range: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            # Infinite minutes save no checkpoint by the clock.
            infinite = isinstance(value, float) and not math.isfinite(value) and name != "save_minutes"
            check(not infinite, f"{name} must be a finite number, got {value}")
        check(
            (self.epochs > 0) != (self.steps > 0) or (self.classifier == "probe" and self.epochs == self.steps == 0),
            "give either epochs or steps, above 0, and leave the other 0",
        )
        for name in ("batch", "accumulate", "evaluate_epochs", "save_epochs", "keep", "repeats"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        check(self.batch <= limits.BATCH, f"batch must be at most {limits.BATCH:,}, got {self.batch}")
        check(
            not isinstance(self.resolution, int) or MIN_RESOLUTION <= self.resolution <= limits.SIDE,
            f"resolution must be at least {MIN_RESOLUTION} and at most {limits.SIDE:,} px, got {self.resolution}",
        )
        check(self.repeats <= self.batch, f"repeats must be at most batch, {self.batch}, got {self.repeats}")
        for name in ("lr", "save_minutes"):
            check(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("lr_batch", "warmup_epochs", "weight_decay", "frozen_epochs", "frozen_stages", "clip_norm",
                     "patience", "max_bad", "color_jitter", "mixup", "cutmix"):  # fmt: skip
            check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("label_smoothing", "ema_decay", "dropout", "erase"):
            check(0 <= (getattr(self, name) or 0) < 1, f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        for name in ("layer_decay", "survival", "crop"):
            value = getattr(self, name)
            check(value in (None, "auto") or 0 < value <= 1, f"{name} must be above 0 and at most 1, got {value}")
        check(
            self.norm_momentum == "kornblith" or 0 <= self.norm_momentum <= 1,
            f"norm_momentum must be from 0 to 1, got {self.norm_momentum}",
        )
        check(self.minival == "auto" or self.minival >= 0, f"minival must not be negative, got {self.minival}")
        check(
            self.minival == "auto" or self.minival < 1 or self.minival == int(self.minival),
            f"minival must be a whole number of images, or a fraction below 1, got {self.minival}",
        )
        check(
            0 < self.area[0] <= self.area[1] <= 1,
            f"area must rise from above 0 to at most 1, such as [0.08, 1], got {list(self.area)}",
        )
        check(0 <= self.seed < _SEEDS, f"seed must be from 0 to below 2^63, got {self.seed}")
        if self.range is not None:
            rises = self.range[0] < self.range[1] and all(map(math.isfinite, self.range))
            check(rises, f"range must be two finite values that rise, such as [0, 4095], got {list(self.range)}")
        check(
            self.train_resolution is None or MIN_RESOLUTION <= self.train_resolution <= limits.SIDE,
            f"train_resolution must be at least {MIN_RESOLUTION} and at most {limits.SIDE:,} px, got"
            f" {self.train_resolution}",
        )
        if self.progressive is not None:
            check(
                self.train_resolution is None,
                "progressive gives the resolution of each phase: leave out train_resolution",
            )
            check(
                self.progressive.magnitude is None or isinstance(self.augment, RandAugment),
                "progressive.magnitude is that of RandAugment: set augment.kind = 'randaugment'",
            )
            for phase in (0, self.progressive.phases - 1):
                self.phase(phase)
        check(
            not self.compile or self.distillation is None or not self.distillation.features,
            "compile and distillation.features exclude each other: a compiled network gives no features",
        )
        check(
            self.repeats == 1 or self.balance != "sampler",
            "repeats and balance = 'sampler' both decide which images are drawn: give one of them",
        )
        check(
            self.loss == "cross-entropy" or self.balance != "loss",
            "balance = 'loss' adjusts cross-entropy; with loss = 'bce' use balance = 'sampler'",
        )
        check(
            self.has_steps or (self.select == "last" and self.patience == 0),
            "select = 'best' and patience compare epochs, and a probe has none: leave them out, or give epochs",
        )
        check(
            self.minival == "auto" or self.minival > 0 or (self.select == "last" and self.patience == 0),
            "select = 'best' and patience judge by held-out images: give minival, a count or a fraction",
        )

    @property
    def phases(self) -> int:
        """Number of phases; 1 without progressive learning."""
        return self.progressive.phases if self.progressive is not None else 1

    def phase(self, number: int) -> Recipe:
        """Return the recipe of a phase, counted from 0: with the values of that phase in place of `progressive`."""
        if self.progressive is None:
            return self
        values: dict[str, Any] = self.progressive.at(number)
        values["train_resolution"] = round(values.pop("resolution"))
        if "magnitude" in values and isinstance(self.augment, RandAugment):
            values["augment"] = msgspec.structs.replace(self.augment, magnitude=values.pop("magnitude"))
        return self.replace(**values, progressive=None)

    @property
    def has_steps(self) -> bool:
        """Whether there are steps of training; otherwise the result is a probe."""
        return self.epochs > 0 or self.steps > 0

    def replace(self, **fields: Any) -> Recipe:
        """Return this recipe with other values in some fields, checked like a new one.

        Raises:
            CompoundNetError: there is no such field, or it cannot have that value.
        """
        for name in fields:
            if name not in self.__struct_fields__:
                raise CompoundNetError(
                    f"a recipe has no field {name!r}{did_you_mean(name, self.__struct_fields__, ELSEWHERE)}"
                )
        changes = {name: msgspec.to_builtins(value) for name, value in fields.items()}
        return convert_fields(msgspec.to_builtins(self) | changes, "recipe")

    def fields(self) -> dict[str, Any]:
        """Return plain values for TOML: a field without a value is omitted."""
        fields: dict[str, Any] = _given(msgspec.to_builtins(self))
        return fields

    def dumps(self) -> str:
        """Return this recipe as TOML, which `find_recipe` reads back."""
        return msgspec.toml.encode(self.fields()).decode()


def _given(value: Any) -> Any:
    """Return plain values without those that are None."""
    if isinstance(value, dict):
        return {name: _given(item) for name, item in value.items() if item is not None}
    return value


def convert_fields(fields: dict[str, Any], source: str) -> Recipe:
    """Make a recipe from plain values. Raises a CompoundNetError that names `source` and the field."""
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise CompoundNetError(f"{source}: {readable_error(error, Recipe)}") from error


@cache
def recipes() -> dict[str, Recipe]:
    """Return the recipes that come with the package, by name."""
    folder = resources.files("compoundnet.train").joinpath("recipes")
    read = [decode_toml(file.read_bytes(), Recipe, file.name) for file in folder.iterdir()]
    return {recipe.name: recipe for recipe in sorted(read, key=lambda recipe: recipe.name)}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name or from a TOML file. Raises CompoundNetError if there is none."""
    if name.endswith(".toml"):
        return read_toml(name, Recipe)
    if name not in recipes():
        raise CompoundNetError(f"there is no recipe named {name!r}{did_you_mean(name, recipes())}")
    return recipes()[name]
