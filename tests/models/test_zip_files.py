"""Zip files whose table was damaged: Python's zipfile raises more than it documents, and each is one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from random_net import random_net, small_network
from small_train import small_dataset

from compoundnet import models, runtime
from compoundnet.base import CompoundNetError
from compoundnet.data.shards import open_shards, write_shards
from compoundnet.models.checkpoints import read_checkpoint
from compoundnet.models.foreign import read_foreign

# The version that is needed to unpack, and the flags, in each row of the table.
_VERSION, _FLAGS = 6, 8


def _checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    torch.save({"stem.conv.weight": torch.zeros(8, 3, 3, 3)}, folder / "a.pth")
    return folder / "a.pth", lambda: read_checkpoint(folder / "a.pth")


def _foreign(folder: Path) -> tuple[Path, Callable[[], object]]:
    file, _ = _checkpoint(folder)
    return file, lambda: read_foreign(file)


def _exported(folder: Path) -> tuple[Path, Callable[[], object]]:
    runtime.export(random_net(small_network()), folder / "a.pt2", format="torch")
    return folder / "a.pt2", lambda: runtime.session(models.open_exported(folder / "a.pt2"))


def _shards(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_shards(small_dataset(), folder / "shards")
    return folder / "shards" / "train.npz", lambda: open_shards(folder / "shards")


@pytest.mark.parametrize("make", [_checkpoint, _foreign, _exported, _shards])
def test_a_table_that_zipfile_does_not_take_is_one_line(
    make: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path
) -> None:
    file, opened = make(tmp_path)
    opened_before = file.read_bytes()
    for place, value in ((_VERSION, 255), (_FLAGS, 1)):  # a version of the future; an entry that is encrypted
        content = bytearray(opened_before)
        at = content.find(b"PK\x01\x02")
        while at >= 0:
            content[at + place] = value
            at = content.find(b"PK\x01\x02", at + 4)
        file.write_bytes(content)
        with pytest.raises(CompoundNetError, match=file.parent.name if make is _shards else file.name) as raised:
            opened()
        assert "\n" not in str(raised.value)
