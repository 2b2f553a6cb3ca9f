"""Recipes: what ships, what `--set` makes of them, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import torch

from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.data.augment import AutoAugment, RandAugment, TrivialAugment
from compoundnet.train import Recipe, find_recipe, override, recipes
from compoundnet.train.recipe import ELSEWHERE
from compoundnet.train.recipe_parts import (
    SGD,
    AdamW,
    Constant,
    Cosine,
    Distillation,
    Progressive,
    RMSProp,
    Staircase,
)
from compoundnet.train.schedule import peak_lr


def test_the_imagenet_recipe_is_the_authors() -> None:
    recipe = find_recipe("imagenet")
    assert recipe.optimizer == RMSProp(decay=0.9, momentum=0.9, eps=1e-3)
    assert recipe.schedule == Staircase(factor=0.97, epochs=2.4)
    assert (recipe.lr, recipe.lr_batch, recipe.warmup_epochs, recipe.epochs) == (0.016, 256, 5, 350)
    assert (recipe.weight_decay, recipe.decay_bias, recipe.label_smoothing) == (1e-5, True, 0.1)
    assert (recipe.ema_decay, recipe.survival, recipe.minival, recipe.select) == (0.9999, 0.8, 25_000, "best")
    assert (recipe.augment, recipe.precision, recipe.sync_norm) == (AutoAugment("v0"), "bf16", True)
    assert recipe.dropout is None  # the network's own: 0.2 (B0) to 0.5 (B7)
    assert peak_lr(recipe) == pytest.approx(0.256)  # section 5.2


def test_the_kornblith_recipe_is_the_transfer_protocol() -> None:
    recipe = find_recipe("kornblith")
    assert (recipe.optimizer, recipe.schedule) == (SGD(momentum=0.9, nesterov=True), Cosine())
    assert (recipe.steps, recipe.batch, recipe.norm_momentum) == (20_000, 256, "kornblith")
    assert recipe.augment is None and recipe.flip


def test_the_efficientnetv2_recipe_is_the_papers() -> None:
    """Table 6, and Algorithm 1 for the phases between the first and the last."""
    recipe, imagenet = find_recipe("efficientnetv2"), find_recipe("imagenet")
    for name in ("optimizer", "schedule", "lr", "lr_batch", "warmup_epochs", "epochs", "batch", "weight_decay",
                 "ema_decay", "survival", "label_smoothing", "select"):  # fmt: skip
        assert getattr(recipe, name) == getattr(imagenet, name)
    assert not recipe.decay_bias and recipe.dropout is None
    phases = [recipe.phase(number) for number in range(recipe.phases)]
    assert [phase.train_resolution for phase in phases] == [128, 185, 243, 300]
    assert [phase.dropout for phase in phases] == pytest.approx([0.1, 0.5 / 3, 0.7 / 3, 0.3])
    augments = [phase.augment for phase in phases]
    assert [augment.magnitude for augment in augments if isinstance(augment, RandAugment)] == pytest.approx(
        [5, 25 / 3, 35 / 3, 15]
    )
    assert not any(phase.mixup or phase.cutmix for phase in phases)
    larger = override(recipe, ["progressive.resolution=[128,380]", "progressive.mixup=[0,0.2]"])
    assert [larger.phase(number).mixup for number in range(4)] == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])


def test_the_ra4_recipe_is_that_of_the_card() -> None:
    recipe = find_recipe("ra4")
    assert (recipe.train_resolution, recipe.resolution, recipe.crop, recipe.epochs) == (224, 256, 1, 3600)
    assert recipe.optimizer == AdamW(beta1=0.6, beta2=0.999, eps=1e-6)
    assert (recipe.clip_norm, recipe.batch, recipe.lr, recipe.weight_decay) == (5, 4096, 2e-3, 0.01)
    assert recipe.augment == RandAugment(2, 6, noise="uniform", probability=0.5, increasing=True)


RECIPES = ["efficientnetv2", "finetune", "imagenet", "kornblith", "probe", "proxy", "quick", "ra4"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_toml(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert decode_toml(recipe.dumps(), Recipe, "text") == recipe
    assert list(recipes()) == RECIPES


def test_the_documentation_names_every_field_with_its_default() -> None:
    """`--list-recipes` sends people there."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    table = text.split("### All fields")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|`]+|`\[[^`]+\]`) \|", table, flags=re.MULTILINE)
    documented = {name: default.strip("`") for name, default in rows}
    assert documented == {field.name: _shown(field) for field in msgspec.structs.fields(Recipe)}
    parts: dict[str, type[msgspec.Struct]] = {
        f"`{part.__struct_config__.tag}`": part
        for part in (RMSProp, SGD, AdamW, Staircase, Cosine, Constant, AutoAugment, RandAugment, TrivialAugment)
    } | {"| `progressive` | |": Progressive, "| `distillation` | |": Distillation}
    for start, part in parts.items():
        (row,) = [line for line in table.splitlines() if start in line]
        for field in msgspec.structs.fields(part):
            assert f"`{field.name}` {_shown(field)}" in row


def _shown(field: msgspec.structs.FieldInfo) -> str:
    """As `--set` takes it."""
    if field.required:
        return "required"
    return "none" if field.default is None else json.dumps(field.default).strip('"')


def test_settings_are_typed_and_reach_into_parts() -> None:
    recipe = override(
        find_recipe("imagenet"),
        [
            "lr=0.1",
            "steps=7",
            "optimizer.eps=0.01",
            "augment.kind=randaugment",
            "augment.magnitude=17",
            "area=[0.5, 1]",
        ],
    )
    assert (recipe.lr, recipe.steps, recipe.epochs, recipe.area) == (0.1, 7, 0, (0.5, 1.0))
    assert recipe.optimizer == RMSProp(eps=0.01)
    assert recipe.augment == RandAugment(layers=2, magnitude=17)
    assert override(recipe, ["augment=none", "optimizer.kind=adamw"]).augment is None
    assert override(recipe, ["optimizer.kind=adamw"]).optimizer == AdamW()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr", "expected key=value"),
        ("epochs=1\nlr=0.5", "epochs"),
        ("learning_rat=1", "no field 'learning_rat'"),
        ("epoch=3", "did you mean"),
        ("class_weight=balanced", "no field 'class_weight'; did you mean balance?"),
        ("image_size=128", "did you mean resolution?"),
        ("WD=0.1", "did you mean weight_decay?"),
        ("momentum=0.9", "did you mean optimizer.momentum?"),
        ("lr=fast", "field lr: Expected `float`, got `str`"),
        ("lr=-1", "lr must be above 0"),
        ("batch=0", "batch must be at least 1"),
        ("epochs=0", "either epochs or steps"),
        ("optimizer.kind=adam", "Invalid value 'adam'; did you mean adamw?"),
        ("optimizer.beta=1", "unknown field `beta`"),
        ("optimizer.eps.x=1", "has no parts"),
        ("minival=0", "select = 'best' and patience judge by held-out images"),
        ("precision=int8", "Invalid enum value 'int8'; known: bf16, fp16, fp32"),
        ("augment.kind=autoaugment", None),
        ("augment.policy=v9", "no policy named 'v9'"),
        ("augment.kind=trivial_augment", "Invalid value 'trivial_augment'; did you mean trivialaugment"),
        ("erase=1", "erase must be from 0 to below 1, got 1"),
        ("mixup=-1", "mixup must not be negative, got -1"),
        ("mixup_alpha=0.2", "did you mean mixup?"),
        ("aug_repeats=3", "did you mean repeats?"),
        ("repeats=0", "repeats must be at least 1, got 0"),
        ("repeats=5000", "repeats must be at most batch, 4096, got 5000"),
        ("loss=mse", "Invalid enum value 'mse'; known: bce, cross-entropy"),
        ("train_resolution=24", "train_resolution must be at least 32 and at most 4,096 px, got 24"),
        (
            "progressive.resolution=[16,64]",
            "and at most 4,096 px in every phase, got [16, 64]",
        ),
        ("progressive.phases=3", "missing required field `resolution`"),
        ("distillation.view=half", "Invalid enum value 'half'; known: same, whole"),
        ("minival=some", "field minival: Invalid enum value 'some'; known: a number, auto"),
        ("distillation.weight=0", "the teacher would teach nothing"),
        ("distillation.temperature=0", "temperature must be above 0 and finite, got 0"),
        ("area=[0,1]", "area must rise from above 0 to at most 1, such as [0.08, 1], got [0.0, 1.0]"),
        ("area=[0.5,1.5]", "area must rise from above 0 to at most 1"),
        ("schedule.epochs=0", "epochs must be above 0 and finite, got 0.0"),
        ("schedule.factor=20", "factor must be above 0 and at most 1, got 20.0"),
        ("optimizer.decay=1", "decay must be from 0 to below 1, got 1.0"),
        ("optimizer.momentum=-0.9", "momentum must be from 0 to below 1, got -0.9"),
        ("optimizer.eps=-1", "eps must not be negative, nor infinite, got -1.0"),
        ("epochs=inf", "epochs must be a finite number, got inf"),
        ("warmup_epochs=inf", "warmup_epochs must be a finite number, got inf"),
        ("minival=1.5", "minival must be a whole number of images, or a fraction below 1, got 1.5"),
        ("seed=-1", "seed must be from 0 to below 2^63, got -1"),
        ("seed=99999999999999999999", "seed must be from 0 to below 2^63"),
        ("range=[4095,0]", "range must be two finite values that rise, such as [0, 4095], got [4095.0, 0.0]"),
    ],
)
def test_a_bad_setting_is_named(setting: str, message: str | None) -> None:
    if message is None:
        assert override(find_recipe("imagenet"), [setting]).augment == AutoAugment()
        return
    with pytest.raises(CompoundNetError) as caught:
        override(find_recipe("imagenet"), [setting])
    assert message.lower() in str(caught.value).lower()


def test_optimisers_take_what_torch_takes() -> None:
    """All of what `--set` accepts, and nothing else."""
    kornblith, settings = find_recipe("kornblith"), ["optimizer.momentum=0"]
    with pytest.raises(CompoundNetError, match="nesterov needs a momentum above 0"):
        override(kornblith, settings)
    weight = torch.nn.Linear(1, 1).requires_grad_()
    plain = override(kornblith, [*settings, "optimizer.nesterov=false"]).optimizer
    assert isinstance(plain, SGD)
    torch.optim.SGD(weight.parameters(), 0.1, plain.momentum, nesterov=plain.nesterov)
    for beta in (0.0, 0.5, 1.0, -0.1):
        setting = ["optimizer.kind=adamw", f"optimizer.beta1={beta}"]
        try:
            torch.optim.AdamW(weight.parameters(), 0.1, (beta, 0.999))
        except ValueError:
            with pytest.raises(CompoundNetError, match="beta1 must be from 0 to below 1"):
                override(kornblith, setting)
        else:
            assert override(kornblith, setting).optimizer == AdamW(beta1=beta)


def test_none_is_a_word_where_a_field_has_it() -> None:
    changed = override(find_recipe("finetune"), ["balance=none", "keep_finished=none", "fit=none", "augment=none"])
    assert (changed.balance, changed.keep_finished, changed.fit, changed.augment) == ("none", "none", None, None)


def test_the_names_of_other_libraries_lead_to_fields() -> None:
    for other, ours in ELSEWHERE.items():
        field, _, part = ours.partition(".")
        assert field in Recipe.__struct_fields__ and other not in Recipe.__struct_fields__
        assert not part or part in ("kind", "momentum")


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(CompoundNetError, match="imagenet"):
        find_recipe("imagnet")
