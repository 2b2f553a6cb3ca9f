"""Reading checkpoints safely: objects that hold data do not stand in the way, and nothing of a file is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import pathlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import AttributeDict
from timm_checkpoints import STATE, is_equal, read

from compoundnet.base import CompoundNetError
from compoundnet.models.checkpoints import read_checkpoint
from compoundnet.models.torch_files import Record, array_of, read_torch


class Meters(collections.deque):  # type: ignore[type-arg]
    """A class of a user's own, which is no mere data."""


def test_a_byte_that_changed_on_the_way_is_damage(tmp_path: Path) -> None:
    """Found by fuzzing: torch names the function that is not allowed, and the checksum of its pickle is wrong."""
    file = tmp_path / "w.pth"
    torch.save(STATE, file)
    content = file.read_bytes()
    assert content.count(b"ctorch\nFloatStorage") == 1
    file.write_bytes(content.replace(b"ctorch\nFloatStorage", b"cuorch\nFloatStorage"))
    with pytest.raises(CompoundNetError, match=r"damaged: .*CRC"):
        read_checkpoint(file)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(lr=0.1, output=pathlib.Path("a/b"), nested=argparse.Namespace(x=1)),
        pathlib.PurePosixPath("/a/b"),
        pathlib.PureWindowsPath("C:/a/b"),
        np.float64(0.5),
        np.arange(3),
        np.dtype("float32"),
        np.array(["a", "b"]),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        collections.defaultdict(list, {"a": [1]}),
        collections.deque([1, 2], 3),
        collections.OrderedDict(a=1),
        AttributeDict(lr=0.1),
        functools.partial(torch.optim.SGD, lr=0.1),
        torch.Size([1, 2]),
        torch.torch_version.TorchVersion("2.0"),
        {1, 2},
        slice(1, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_that_only_hold_data_do_not_stand_in_the_way(value: object, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": STATE, "args": value}, path, _use_new_zipfile_serialization=zipped)
    assert is_equal(read_checkpoint(path).state, STATE)


def test_windows_paths_of_another_machine_are_read(tmp_path: Path) -> None:
    """`pathlib.WindowsPath` cannot be made on Linux, so the pickle is written with the name replaced."""
    torch.save({"state_dict": STATE, "out": pathlib.PosixPath("a")}, tmp_path / "posix.pth")
    with zipfile.ZipFile(tmp_path / "posix.pth") as source, zipfile.ZipFile(tmp_path / "windows.pth", "w") as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry).replace(b"PosixPath\n", b"WindowsPath\n"))
    assert is_equal(read_checkpoint(tmp_path / "windows.pth").state, STATE)


def test_an_object_becomes_a_record_of_its_values(tmp_path: Path) -> None:
    torch.save(argparse.Namespace(lr=0.1, model="tf_efficientnet_b0"), tmp_path / "args.pth")
    found = read_torch(tmp_path / "args.pth")
    assert isinstance(found, Record)
    assert (found.of, found.values) == ("argparse.Namespace", {"lr": 0.1, "model": "tf_efficientnet_b0"})


class Calls:
    """Unpickling this would call a function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class SetsState:
    """Unpickling this would create the file `marker` in __setstate__."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __getstate__(self) -> dict[str, Path]:
        return {"marker": self.marker}

    def __setstate__(self, state: dict[str, Path]) -> None:
        state["marker"].touch()


def hostile(marker: Path) -> dict[str, object]:
    touch = f"open({str(marker)!r}, 'w')"
    return {
        "eval": Calls(eval, touch),
        "exec": Calls(exec, touch),
        "getattr": Calls(getattr, marker, "touch"),
        "open": Calls(open, str(marker), "w"),
        "partial of a function": Calls(functools.partial, Calls(eval, touch)),
        "partial called": Calls(functools.partial(eval, touch)),
        "a method of a path": Calls(Path.touch, marker),
        "setstate": SetsState(marker),
        "hub": Calls(torch.hub.load, "a", "b"),
        "torch.load": Calls(torch.load, "a"),
        "numpy.load": Calls(np.load, "a"),
        "a method of an array": Calls(np.ndarray.tofile, np.arange(3), str(marker)),
        "subclass of deque": Meters([1]),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("trick", hostile(Path("marker")))
def test_what_would_run_is_refused_also_beside_what_is_data(trick: str, zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    arguments = argparse.Namespace(lr=0.1, hidden=hostile(marker)[trick])
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": STATE, "args": arguments}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CompoundNetError, match=r"evil\.pth is a pickle that wants to run .*; it was refused"):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_file_that_gives_a_harmless_class_a_harmful_name_runs_nothing(tmp_path: Path) -> None:
    """A class of data is never imported: whatever a file does with its name happens to a record."""
    torch.save({"state_dict": STATE, "x": Calls(argparse.Namespace, "argument", 3)}, tmp_path / "checkpoint.pth")
    assert is_equal(read_checkpoint(tmp_path / "checkpoint.pth").state, STATE)
    found = read_torch(tmp_path / "checkpoint.pth")["x"]
    assert (type(found).__mro__[1], found.arguments) == (Record, ("argument", 3))


def test_nothing_stays_allowed_after_a_file_was_read(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read({"state_dict": STATE, "args": argparse.Namespace(a=1)}, tmp_path)
    assert set(torch.serialization.get_safe_globals()) == before


def test_weights_stored_as_numpy_arrays_are_weights(tmp_path: Path) -> None:
    found = read({"state_dict": {name: tensor.numpy() for name, tensor in STATE.items()}}, tmp_path)
    assert is_equal(found.state, STATE)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.arange(4, dtype=">f4"), np.array(2, np.float32)])
def test_an_array_is_read_without_numpys_unpickler(array: Any, tmp_path: Path) -> None:
    torch.save({"a": array}, tmp_path / "array.pth")
    found = array_of(read_torch(tmp_path / "array.pth")["a"])
    np.testing.assert_array_equal(found, array)


def test_an_array_of_objects_is_none(tmp_path: Path) -> None:
    torch.save({"a": np.array([None, "x"], dtype=object)}, tmp_path / "array.pth")
    assert array_of(read_torch(tmp_path / "array.pth")["a"]) is None
