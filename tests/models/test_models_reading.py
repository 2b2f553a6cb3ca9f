"""Weights files are read safely, and what cannot be read says why."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_models import lite0_file
from torch import Tensor, nn

from compoundnet.base import CompoundNetError
from compoundnet.models.checkpoints import read_state
from compoundnet.models.weights_files import check_sha256, sha256_of, tensor_shapes

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.arange(70_000, dtype=torch.int64)}
WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "safetensors": save_file,
}


class RunsCode:
    """Unpickling this creates the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_tensors(form: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"  # told apart by content, not by name
    WRITERS[form](STATE, path)
    found = read_state(path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("wrap", ["state_dict", "model", "model_state_dict"])
def test_a_training_checkpoint_gives_its_weights(wrap: str, tmp_path: Path) -> None:
    parallel = {f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save({"epoch": 3, wrap: parallel, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pth")
    assert read_state(tmp_path / "checkpoint.pth").keys() == STATE.keys()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_pickle_that_runs_code_is_refused_before_it_runs(form: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    WRITERS[form]({"a": torch.ones(2), "b": RunsCode(marker)}, tmp_path / "evil.pth")
    with pytest.raises(CompoundNetError, match=r"evil\.pth is a pickle that wants to run .*; it was refused"):
        read_state(tmp_path / "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_bare_pickle_is_refused_before_it_runs(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(RunsCode(marker), protocol=protocol))
    with pytest.raises(CompoundNetError, match=r"bare\.pkl"):
        read_state(tmp_path / "bare.pkl")
    assert not marker.exists()


class Settings:
    """A class of a user's own training program."""


@pytest.mark.parametrize("content", [nn.Linear(2, 2), {"state_dict": STATE, "args": Settings()}])
def test_a_pickled_module_is_refused_with_what_to_do(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "module.pth")
    with pytest.raises(CompoundNetError, match=r"(Linear|Settings).*state_dict\(\)"):
        read_state(tmp_path / "module.pth")


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("kept", [0, 5, 30, 300, 100_000, 500_000])
def test_a_truncated_file_says_so(form: str, kept: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    WRITERS[form](STATE, whole)
    cut.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(CompoundNetError, match=r"cut .*(truncated|damaged)"):
        read_state(cut)


def test_a_truncated_download_of_real_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "lite0.pth").write_bytes(lite0_file().read_bytes()[:5_000_000])
    with pytest.raises(CompoundNetError, match=r"lite0\.pth is truncated or damaged"):
        read_state(tmp_path / "lite0.pth")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (torch.ones(3), "a Tensor, not a dictionary"),
        ({}, "an empty dictionary"),
        ({"a": torch.ones(1), "epoch": 3}, "other things than tensors: epoch"),
    ],
)
def test_what_is_no_state_dict_says_what_it_is(content: object, problem: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CompoundNetError, match=problem):
        read_state(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"\x89HDF\r\n\x1a\n plus more", "keras"), (b"a text, not weights", "neither a safetensors nor")],
)
def test_other_kinds_of_file_are_named(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CompoundNetError, match=problem):
        read_state(tmp_path / "other")


@pytest.mark.parametrize("read", [read_state, sha256_of, tensor_shapes])
def test_a_missing_file_is_an_error_that_names_it(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"nothing\.pth: cannot be read"):
        read(tmp_path / "nothing.pth")


def test_shapes_come_from_the_header(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert tensor_shapes(tmp_path / "weights.safetensors") == {"a.weight": (2, 3), "b": (70_000,)}


def test_another_checksum_names_both_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(tmp_path / "file", right.upper(), "get it again")
    with pytest.raises(CompoundNetError, match=f"{right}, and should be {'0' * 64}; get it again"):
        check_sha256(tmp_path / "file", "0" * 64, "get it again")


def test_half_precision_is_read_as_it_is(tmp_path: Path) -> None:
    state: dict[str, Tensor] = {"a": torch.ones(4, dtype=torch.bfloat16)}
    save_file(state, tmp_path / "half.safetensors")
    assert read_state(tmp_path / "half.safetensors")["a"].dtype is torch.bfloat16
    assert tensor_shapes(tmp_path / "half.safetensors") == {"a": (4,)}


def test_a_pickle_that_breaks_off_at_any_byte_is_damaged(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "whole", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "whole").read_bytes()
    for kept in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:kept])
        with pytest.raises(CompoundNetError, match="damaged"):
            read_state(tmp_path / "cut")
