"""Training programs' checkpoints: averages are preferred, prefixes are removed, and every choice is said."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.utilities.data import AttributeDict
from small_models import small_network
from timm_checkpoints import AVERAGE, STATE, below, is_equal, read
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compoundnet.base import CompoundNetError
from compoundnet.models.checkpoints import check_values, read_checkpoint, without_prefix
from compoundnet.nn import build

# Class names


@pytest.mark.parametrize(
    "content",
    [
        {"class_to_idx": {"cat": 0, "dog": 1}},
        {"classes": ["cat", "dog"], "labels": [1, 0, 0, 1]},
        {"idx_to_class": {1: "dog", 0: "cat"}},
        {"hyper_parameters": {"class_names": ("cat", "dog"), "lr": 0.1}},
        {"args": argparse.Namespace(id2label={"0": "cat", "1": "dog"})},
    ],
)
def test_class_names_come_along(content: dict[str, object], tmp_path: Path) -> None:
    found = read({"state_dict": STATE, **content}, tmp_path)
    assert found.labels == ("cat", "dog")
    assert re.search(r"the class names are those of \w+ in the checkpoint", " ".join(found.notes))


@pytest.mark.parametrize("stated", [{"cat": 0, "dog": 2}, [], 3, [0, 1], None, {"a": "b"}])
def test_what_names_no_class_by_index_is_not_taken(stated: object, tmp_path: Path) -> None:
    assert read({"state_dict": STATE, "classes": stated}, tmp_path).labels is None


# Averages


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": STATE, "state_dict_ema": AVERAGE}, ("state_dict_ema", "state_dict")),
        ({"model": STATE, "ema_state_dict": AVERAGE}, ("ema_state_dict", "model")),
        ({"model": STATE, "model_ema": {"module": AVERAGE}}, ("model_ema", "model")),
        ({"net": STATE, "ema": AVERAGE, "ema_decay": 0.99}, ("ema", "net")),
        ({"params": STATE, "params_ema": AVERAGE}, ("params_ema", "params")),
        ({"state_dict": STATE, "callbacks": {"EMA": {"ema_state_dict": AVERAGE}}}, ("ema_state_dict", "state_dict")),
        # Lightning's WeightAveraging stores the average as `state_dict`.
        ({"state_dict": AVERAGE, "current_model_state": STATE}, ("state_dict", "current_model_state")),
        # torchvision's reference script
        ({"model": STATE, "model_ema": {"n_averaged": torch.tensor(3), **below("module.", AVERAGE)}},
         ("model_ema", "model")),
    ],
)  # fmt: skip
def test_averaged_weights_are_preferred_and_raw_takes_the_others(
    content: object, names: tuple[str, str], tmp_path: Path
) -> None:
    averaged, trained = names
    found = read(content, tmp_path)
    assert found.averaged and is_equal(found.state, AVERAGE)
    assert (
        found.notes[0] == f"took the averaged weights, {averaged}, not the trained ones, {trained}; --raw takes those"
    )
    raw = read(content, tmp_path, raw=True)
    assert not raw.averaged and is_equal(raw.state, STATE)
    assert raw.notes[0] == f"took the trained weights, {trained}, not their average, {averaged}"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda content: {"checkpoint": content},
        lambda content: {"state": content, "optimizer": {"state": {0: {"exp_avg": STATE["classifier.weight"]}}}},
        lambda content: {"data": {"epoch": 3, "model": content}, "date": "today", "rng": {"cpu": torch.ones(3)}},
        lambda content: {"a": {"b": {"c": content}}},
    ],
)
@pytest.mark.parametrize("names", [("state_dict_ema", "state_dict"), ("ema", "model"), ("model_ema", "net")])
def test_an_average_in_nested_dictionaries_is_preferred_too(
    wrapped: Callable[[object], object], names: tuple[str, str], tmp_path: Path
) -> None:
    averaged, trained = names
    content = wrapped({trained: STATE, averaged: AVERAGE, "args": {"model": "efficientnet_b0"}})
    found = read(content, tmp_path)
    assert found.averaged and is_equal(found.state, AVERAGE)
    assert f"took the averaged weights, {averaged}, not the trained ones, {trained}; --raw takes those" in found.notes
    assert found.settings["model"] == "efficientnet_b0"
    raw = read(content, tmp_path, raw=True)
    assert not raw.averaged and is_equal(raw.state, STATE)


@pytest.mark.parametrize(
    "content",
    [{"data": {"network": STATE}}, {"checkpoint": {"net": STATE}}, {"a": {"b": {"weights": STATE}}},
     {"a": {"b": {"c": {"mine": STATE}}}}, {"model": {"state_dict": {"module": STATE}}}],
)  # fmt: skip
def test_nested_weights_are_found(content: dict[str, object], tmp_path: Path) -> None:
    found = read(content, tmp_path)
    assert not found.averaged and is_equal(found.state, STATE)
    outermost = next(iter(content))
    assert (f"took the weights in the entry {outermost}" in found.notes) == (outermost != "model")


def test_two_nests_are_named_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"first|other things than tensors"):
        read({"first": {"mine": STATE}, "second": {"mine": AVERAGE}}, tmp_path)


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content.update({str(number): content for number in range(2000)})
    with pytest.raises(CompoundNetError, match="other things than tensors"):
        read(content, tmp_path)


def test_an_average_below_a_prefix_is_preferred_too(tmp_path: Path) -> None:
    content = {"state_dict": {**below("model."), **below("ema_model.module.", AVERAGE)}}
    found = read(content, tmp_path)
    assert found.averaged and is_equal(found.state, AVERAGE)
    assert "took the averaged weights below ema_model.module., not those below model." in found.notes[0]
    assert is_equal(read(content, tmp_path, raw=True).state, STATE)


def test_an_average_inside_the_network_itself_is_preferred_too(tmp_path: Path) -> None:
    content = {**STATE, **below("ema.", AVERAGE), "decay_head.weight": torch.ones(2)}
    found = read(content, tmp_path)
    assert found.averaged and is_equal(found.state, AVERAGE)
    raw = read(content, tmp_path, raw=True)
    assert is_equal(raw.state, {**STATE, "decay_head.weight": torch.ones(2)})


def test_an_averaged_model_of_torch_is_read_and_said_to_be_one(tmp_path: Path) -> None:
    model = build(small_network())
    found = read(AveragedModel(model).state_dict(), tmp_path)
    assert found.averaged and found.prefix == "module." and is_equal(found.state, model.state_dict())


@pytest.mark.parametrize("content", [{"state_dict": STATE}, STATE, {"state_dict": STATE, "ema": 0.99}])
def test_raw_without_an_average_says_so(content: object, tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no moving average beside its weights, so leave out raw"):
        read(content, tmp_path, raw=True)


def test_an_average_without_trained_weights_cannot_be_raw(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="holds the moving average model_ema only"):
        read({"model_ema": AVERAGE}, tmp_path, raw=True)


# Prefixes and other entries


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module.",
        "model.",
        "net.",
        "backbone.",
        "module._orig_mod.",
        "_orig_mod.module.model.encoder.0.",
        "x.",
    ],
)
def test_any_prefix_is_removed_and_said(prefix: str, tmp_path: Path) -> None:
    found = read({"state_dict": below(prefix)}, tmp_path)
    assert found.prefix == prefix and is_equal(found.state, STATE)
    assert f"removed the prefix {prefix} from the names of the tensors" in found.notes


def test_a_compiled_and_distributed_module_is_read(tmp_path: Path) -> None:
    model = build(small_network())
    compiled: Any = torch.compile(model)
    found = read(nn.DataParallel(compiled).state_dict(), tmp_path)
    assert is_equal(found.state, model.state_dict())


class Compared(str):
    """The name of a tensor, which counts how often it is compared with a prefix."""

    times = 0

    def startswith(self, *arguments: Any) -> bool:
        Compared.times += 1
        return super().startswith(*arguments)


def test_many_prefixes_are_not_compared_with_every_name() -> None:
    """A file of 100,000 tensors named like a stem would take hours."""
    stem = torch.zeros(1, 1, 1, 1)
    state: dict[str, Tensor] = {Compared(f"x{number}.conv_stem.weight"): stem for number in range(2000)}
    found = without_prefix(state)
    assert found.prefix == "" and len(found.state) == 2000
    assert Compared.times <= 10 * len(state)


def test_lightnings_other_tensors_are_apart(tmp_path: Path) -> None:
    content = {
        "state_dict": {**below("model."), "criterion.weight": torch.ones(3), "val_acc.total": torch.tensor(3)},
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": AttributeDict(lr=0.1, model_name="tf_efficientnet_b0"),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}],
    }
    found = read(content, tmp_path)
    assert is_equal(found.state, STATE)
    assert set(found.others) == {"criterion.weight", "val_acc.total"}
    assert found.settings["model_name"] == "tf_efficientnet_b0"


def test_an_unusual_entry_is_taken_where_it_is_the_only_one(tmp_path: Path) -> None:
    found = read({"my_weights": STATE, "optimizer": {"m": torch.ones(2)}, "step": 3}, tmp_path)
    assert is_equal(found.state, STATE)
    assert found.notes == ("took the weights in the entry my_weights",)


def test_entries_beside_the_weights_are_named(tmp_path: Path) -> None:
    found = read({"model": STATE, "best_model": STATE, "optimizer": {"m": torch.ones(2)}}, tmp_path)
    assert is_equal(found.state, STATE)
    assert found.notes == (f"took the weights in the entry model, and left out best_model ({len(STATE)} tensors)",)


def test_several_unusual_entries_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"several dictionaries of tensors.*: one \(\d+ tensors\), two \("):
        read({"one": STATE, "two": AVERAGE}, tmp_path)


# Values


def spoiled(name: str, change: Any) -> dict[str, Tensor]:
    return {**STATE, name: change(STATE[name])}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor * float("nan"), r"is not finite: 96 of its 96 values are NaN or infinite"),
        (lambda tensor: tensor / torch.zeros(1) + 1e38, "is not finite"),
        (lambda tensor: tensor.to("meta"), "has no values"),
        (lambda tensor: tensor.to_sparse(), r"is sparse \(torch.sparse_coo\)"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), r"is quantised \(torch.qint8\)"),
        (lambda tensor: tensor.to(torch.int8), "holds int8 instead of floating-point numbers"),
        (lambda tensor: tensor.to(torch.complex64), "holds complex64 instead of floating-point numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_tensor_that_cannot_be_weights_is_named(change: Any, problem: str, tmp_path: Path) -> None:
    state = read(spoiled("classifier.weight", change), tmp_path).state
    with pytest.raises(CompoundNetError, match=rf"x\.pth: the tensor classifier\.weight {problem}"):
        check_values(state, "x.pth")


# Files of other kinds


def test_torchscript_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scripted.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"scripted/{name}", b"")
    with pytest.raises(CompoundNetError, match=r"TorchScript archive, which holds code.*state_dict\(\)"):
        read_checkpoint(tmp_path / "scripted.pt")


def test_a_whole_module_in_an_entry_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"holds a whole torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        read({"model": nn.Linear(2, 2), "epoch": 3}, tmp_path)


def test_a_learner_of_fastai_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "export.pkl").write_bytes(b"\x80\x02cfastai.learner\nLearner\n)\x81.")
    with pytest.raises(CompoundNetError, match=r"export`, a pickle that wants to run.*load_learner"):
        read_checkpoint(tmp_path / "export.pkl")


def test_a_bare_pickle_of_tensors_is_no_torch_file(tmp_path: Path) -> None:
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CompoundNetError, match=r"bare\.pkl"):
        read_checkpoint(tmp_path / "bare.pkl")


def test_another_zip_says_what_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat/0.jpg", b"")
    with pytest.raises(
        CompoundNetError, match=r"a zip file without weights of torch or Keras in it; it holds cat/0\.jpg"
    ):
        read_checkpoint(tmp_path / "photos.zip")
