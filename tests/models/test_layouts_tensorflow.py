"""Layout `tensorflow`: the authors' variables give TensorFlow's logits, averaged or raw.

`variables.npz` holds what the checkpoint beside it holds, so that only the reader itself needs TensorFlow here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_network import FIXTURES, check_close, logits, tiny_network
from torch import Tensor

from compoundnet.arch import SeparableConv, Stage, network
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts import from_layout, layout, to_layout
from compoundnet.models.tensorflow_files import AVERAGE, choose, read_checkpoint, read_tensorflow, write_tensorflow

TENSORFLOW = FIXTURES / "tensorflow"
PREFIX = TENSORFLOW / "model.ckpt-7"
LAYOUT = layout("tensorflow")
EXPECTED = np.load(TENSORFLOW / "expected.npz")
VARIABLES: dict[str, Any] = dict(np.load(TENSORFLOW / "variables.npz"))


def chosen(variables: dict[str, Any], raw: bool = False) -> dict[str, Tensor]:
    names = choose(variables, raw=raw, source="here")
    return {name: torch.from_numpy(variables[stored]) for name, stored in names.items()}


@pytest.mark.parametrize("kind", ["averaged", "raw"])
@pytest.mark.parametrize("size", [45, 50])
def test_the_variables_give_tensorflows_logits(kind: str, size: int) -> None:
    # What the checkpoint does not have of its own: the authors' padding and norm must come from the layout.
    asked = tiny_network(num_classes=1000).replace(padding="symmetric", norm=network("mobilenet-v2").norm)
    converted, state = from_layout(chosen(VARIABLES, raw=kind == "raw"), asked, LAYOUT)
    assert (converted.padding, converted.norm.eps, converted.num_classes) == ("same", 1e-3, 5)
    check_close(logits(converted, state, EXPECTED[f"images_{size}"]), EXPECTED[f"{kind}_{size}"])


def test_slots_and_step_are_left_out() -> None:
    assert {"efficientnet-b0/head/dense/bias/RMSProp", "global_step"} <= VARIABLES.keys()
    tensors = LAYOUT.pairs(tiny_network())
    for raw in (False, True):
        assert chosen(VARIABLES, raw).keys() == {pair.theirs for pair in tensors}


def test_there_and_back_again_gives_the_same_variables() -> None:
    theirs = chosen(VARIABLES)
    back = to_layout(from_layout(theirs, tiny_network(), LAYOUT)[1], tiny_network(), LAYOUT)
    assert back.keys() == theirs.keys()
    assert all(back[name].equal(tensor) for name, tensor in theirs.items())


def test_a_checkpoint_of_averages_alone_is_read_but_has_no_raw_weights() -> None:
    averages = {name: value for name, value in VARIABLES.items() if name.endswith(AVERAGE)}
    assert chosen(averages).keys() == chosen(VARIABLES).keys()
    with pytest.raises(CompoundNetError, match=r"here holds moving averages only.*leave out raw"):
        chosen(averages, raw=True)


def test_a_checkpoint_without_averages_gives_what_it_has() -> None:
    without = {name: value for name, value in VARIABLES.items() if not name.endswith(AVERAGE)}
    assert all(chosen(without)[name].equal(tensor) for name, tensor in chosen(VARIABLES, raw=True).items())
    with pytest.raises(CompoundNetError, match="here holds no moving averages; leave out raw"):
        chosen(without, raw=True)


def test_a_missing_average_is_not_replaced_by_the_raw_tensor() -> None:
    partial = {
        name: value for name, value in VARIABLES.items() if name != f"efficientnet-b0/blocks_1/se/conv2d/bias{AVERAGE}"
    }
    with pytest.raises(CompoundNetError, match=r"1 missing \(blocks_1/se/conv2d/bias\)"):
        from_layout(chosen(partial), tiny_network(), LAYOUT)


def test_the_models_scope_can_be_any_or_none() -> None:
    bare = {name.removeprefix("efficientnet-b0/"): value for name, value in VARIABLES.items()}
    assert chosen(bare).keys() == chosen(VARIABLES).keys()
    nested = {f"a.b/{name}": value for name, value in VARIABLES.items()}
    assert chosen(nested).keys() == chosen(VARIABLES).keys()


def test_another_model_and_two_models_are_refused() -> None:
    with pytest.raises(CompoundNetError, match=r"here is not a checkpoint of one EfficientNet.*it holds conv1/kernel"):
        choose(["conv1/kernel"], raw=False, source="here")
    with pytest.raises(CompoundNetError, match="2 of its variables are named stem/conv2d/kernel"):
        choose(["a/stem/conv2d/kernel", "b/stem/conv2d/kernel"], raw=False, source="here")


def test_another_network_is_told_by_its_tensors() -> None:
    with pytest.raises(CompoundNetError, match=r"missing \(blocks_4/.*misshapen"):
        from_layout(chosen(VARIABLES), network("efficientnet-b0"), LAYOUT)


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-l2", "efficientnet-lite4"])
def test_every_tensor_has_a_name_of_its_own(name: str) -> None:
    pairs = LAYOUT.pairs(network(name))
    assert len({pair.theirs for pair in pairs}) == len({pair.ours for pair in pairs}) == len(pairs)


def test_a_network_that_the_authors_code_lacks_is_refused() -> None:
    with pytest.raises(CompoundNetError, match="the authors' code has no SeparableConv"):
        LAYOUT.pairs(tiny_network().replace(stages=(Stage(SeparableConv(), 8),)))


# Checkpoint files


def test_without_tensorflow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CompoundNetError, match=r"reading TensorFlow checkpoints .*pip install tensorflow"):
        read_tensorflow(PREFIX)
    with pytest.raises(CompoundNetError, match=r"writing TensorFlow checkpoints .*pip install tensorflow"):
        write_tensorflow(tmp_path / "model.ckpt", tiny_network(), {})


@pytest.mark.parametrize("path", ["none.ckpt", "none.ckpt.index", "variables.npz"])
def test_a_path_without_a_checkpoint_says_what_to_give(path: str) -> None:
    with pytest.raises(CompoundNetError, match=f"{path}: there is no checkpoint; give what its files' names have"):
        read_tensorflow(TENSORFLOW / path)


def test_a_folder_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="a folder without a readable file named checkpoint"):
        read_tensorflow(tmp_path)
    (tmp_path / "checkpoint").write_text("nothing\n")
    with pytest.raises(CompoundNetError, match="does not say model_checkpoint_path"):
        read_tensorflow(tmp_path)


@pytest.fixture
def tensorflow() -> Any:
    return pytest.importorskip("tensorflow", reason="TensorFlow is not installed: no dependency, it reads checkpoints")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("named", ["", ".index", ".data-00000-of-00001", "folder"])
@pytest.mark.parametrize("raw", [False, True])
def test_a_checkpoint_is_read(named: str, raw: bool, tensorflow: Any) -> None:
    path = TENSORFLOW if named == "folder" else Path(f"{PREFIX}{named}")
    (found, averaged), expected = read_checkpoint(path, raw=raw), choose(VARIABLES, raw=raw, source="here")
    assert found.keys() == expected.keys() and averaged is not raw
    for name, stored in expected.items():
        np.testing.assert_array_equal(found[name], VARIABLES[stored])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(part: str, share: float, tensorflow: Any, tmp_path: Path) -> None:
    for file in TENSORFLOW.glob("model.ckpt-7.*"):
        shutil.copy(file, tmp_path)
    cut = tmp_path / f"model.ckpt-7.{part}"
    cut.write_bytes(cut.read_bytes()[: int(share * cut.stat().st_size)])
    with pytest.raises(CompoundNetError, match=r"truncated or damaged"):
        read_checkpoint(tmp_path / "model.ckpt-7")


@pytest.mark.filterwarnings("ignore")
def test_a_written_checkpoint_is_restored_by_name(tensorflow: Any, tmp_path: Path) -> None:
    theirs = chosen(VARIABLES)
    write_tensorflow(tmp_path / "ours.ckpt", tiny_network(), from_layout(theirs, tiny_network(), LAYOUT)[1], "b0")
    assert {file.name for file in tmp_path.iterdir()} == {"ours.ckpt.index", "ours.ckpt.data-00000-of-00001"}
    shapes = tensorflow.train.load_checkpoint(str(tmp_path / "ours.ckpt")).get_variable_to_shape_map()
    assert shapes.keys() == {f"b0/{name}{ending}" for name in theirs for ending in ("", AVERAGE)}
    for raw in (False, True):
        found, _ = read_tensorflow(tmp_path / "ours.ckpt", raw=raw)
        assert all(found[name].equal(tensor) for name, tensor in theirs.items())
