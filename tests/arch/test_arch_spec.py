"""TOML in and out: everything comes back equal, and every mistake names its field."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from strategies import networks

from compoundnet import arch, base

B0 = arch.network("efficientnet-b0")


@given(networks)
def test_round_trip(network: arch.Network) -> None:
    assert arch.Network.loads(network.dumps()) == network


def test_catalogue_round_trip(tmp_path: Path) -> None:
    for members in arch.families().values():
        for network in members.values():
            network.save(tmp_path / "net.toml")
            assert arch.Network.load(tmp_path / "net.toml") == network
    assert [path.name for path in tmp_path.iterdir()] == ["net.toml"]  # no temporary file is left


def test_a_path_is_a_network(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    B0.save(path)
    assert arch.network(str(path)) == B0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels = 40", 'channels = "40"', r"field stages\[2\].channels: Expected `int`, got `str`"),
        ("channels = 40", "channels = 0", r"field stages\[2\]: channels must be at least 1, got 0"),
        ("kernel = 5", "kernel = 4", r"kernel must be odd and between 1 and 31, got 4"),
        ("kernel = 5", "kernal = 5", r"field stages\[2\].block: Object contains unknown field `kernal`"),
        ("dropout = 0.2", "dropout = 1.5", r"dropout must be at least 0 and below 1, got 1.5"),
        ("dropout = 0.2", "dropuot = 0.2", r"unknown field `dropuot`"),
        ("resolution = 224", "resolution = 16", r"resolution must be at least 32 px, got 16"),
        (
            'type = "MBConv"',
            'type = "MBConf"',
            r"field stages\[0\].block.type: Invalid value 'MBConf'; did you mean MBC",
        ),
        ("resolution = 224", "", r"missing required field `resolution`"),
        ("resolution = 224", "resolution = ", r"net.toml: Invalid value"),
    ],
)
def test_a_mistake_names_file_field_and_value(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = B0.dumps()
    assert old in text
    path = tmp_path / "net.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(base.CompoundNetError, match=message) as caught:
        arch.Network.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start = 3\nmiddle = 5", "start = 4\nmiddle = 5", r"start must be 0 \(none\), or odd and at most 31, got 4"),
        ("start = 3\nmiddle = 5", "start = 0\nmiddle = 0", "a UIB without depthwise convolutions cannot have stride 2"),
        ("hidden = 1280", "hidden = -1", r"hidden must be 0 \(no convolution\) or more, got -1"),
    ],
)
def test_mistakes_in_groups_of_unlike_blocks_are_named(old: str, new: str, message: str) -> None:
    text = arch.network("mobilenet-v4-conv-medium").dumps()
    assert old in text
    with pytest.raises(base.CompoundNetError, match=message):
        arch.Network.loads(text.replace(old, new, 1))


def test_a_joined_stage_follows_another_at_the_same_resolution() -> None:
    with pytest.raises(base.CompoundNetError, match="a joined stage must have stride 1, got 2"):
        arch.Stage(arch.MBConv(), 16, stride=2, joined=True)
    with pytest.raises(base.CompoundNetError, match="the first stage cannot be joined"):
        B0.replace(stages=(msgspec.structs.replace(B0.stages[0], joined=True), *B0.stages[1:]))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(base.CompoundNetError, match=r"none\.toml: cannot be read: No such file"):
        arch.network(str(tmp_path / "none.toml"))


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    B0.save(tmp_path / "new" / "net.toml")
    assert arch.network(str(tmp_path / "new" / "net.toml")) == B0
    (tmp_path / "file").touch()
    with pytest.raises(base.CompoundNetError, match="file"):
        B0.save(tmp_path / "file" / "net.toml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]


def test_replace_checks() -> None:
    with pytest.raises(ValueError, match="survival"):
        B0.replace(survival=0.0)
    assert B0.replace(num_classes=10).num_classes == 10
