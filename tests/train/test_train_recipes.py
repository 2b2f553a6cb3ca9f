"""Recipes: what ships, what `--set` makes of them, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.data.augment import AutoAugment, RandAugment
from compoundnet.train import Recipe, find_recipe, override, recipes
from compoundnet.train.recipe import ELSEWHERE, SGD, AdamW, Constant, Cosine, RMSProp, Staircase
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


@pytest.mark.parametrize("name", ["finetune", "imagenet", "kornblith", "proxy", "quick"])
def test_a_recipe_survives_toml(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert decode_toml(recipe.dumps(), Recipe, "text") == recipe
    assert list(recipes()) == ["finetune", "imagenet", "kornblith", "proxy", "quick"]


def test_the_documentation_names_every_field_with_its_default() -> None:
    """`--list-recipes` sends people there."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    table = text.split("### All fields")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|`]+|`\[[^`]+\]`) \|", table, flags=re.MULTILINE)
    documented = {name: default.strip("`") for name, default in rows}
    assert documented == {field.name: _shown(field) for field in msgspec.structs.fields(Recipe)}
    for part in (RMSProp, SGD, AdamW, Staircase, Cosine, Constant, AutoAugment, RandAugment):
        (row,) = [line for line in table.splitlines() if f"`{part.__struct_config__.tag}`" in line]
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
        ("optimizer.kind=adam", "Invalid value 'adam'"),
        ("optimizer.beta=1", "unknown field `beta`"),
        ("optimizer.eps.x=1", "has no parts"),
        ("minival=0", "select = 'best' and patience judge by held-out images"),
        ("precision=int8", "Invalid enum value 'int8'"),
        ("augment.kind=autoaugment", None),
        ("augment.policy=v9", "no policy named 'v9'"),
    ],
)
def test_a_bad_setting_is_named(setting: str, message: str | None) -> None:
    if message is None:
        assert override(find_recipe("imagenet"), [setting]).augment == AutoAugment()
        return
    with pytest.raises(CompoundNetError) as caught:
        override(find_recipe("imagenet"), [setting])
    assert message.lower() in str(caught.value).lower()


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
