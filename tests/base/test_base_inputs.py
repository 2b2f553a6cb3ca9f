"""Files that decide sizes: what is no regular file, and what asks for more than its own size, is refused at once."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compoundnet import arch, base, nn, train
from compoundnet.arch import Network
from compoundnet.base.images import UnreadableImageError, read_image
from compoundnet.models import Preprocess, read_foreign
from compoundnet.models.tensors import expected_tensors
from compoundnet.train.overrides import override


def test_a_message_says_what_a_file_holds_but_not_all_of_it() -> None:
    with bounded(), pytest.raises(base.CompoundNetError) as raised:
        Network.loads("n" * 50_000 + ' = "a"\n', "net.toml")
    message = str(raised.value)
    assert len(message) < 4100 and " characters left out] nnn" in message
    assert message.startswith("net.toml: Object contains unknown field `nnn")
    left_out = int(message.partition("[")[2].partition(" ")[0].replace(",", ""))
    assert left_out == len("net.toml: Object contains unknown field ``") + 50_000 - 4000
    for length in (4000, 4001):
        assert ("left out" in str(base.CompoundNetError("a" * length))) == (length > 4000)


NETWORK = """
name = "n"
resolution = 32
stem = {}
[[stages]]
block = {type = "MBConv"}
channels = 8
repeats = REPEATS
"""


@contextmanager
def bounded(seconds: float = 10, megabytes: int = 200) -> Iterator[None]:
    """Fail if the block takes longer or allocates more."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        yield
        assert time.monotonic() - start < seconds
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


def dotted(parts: int) -> str:
    return f"{'.'.join('a' * parts)} = 1"


HOSTILE = {
    "dotted key": dotted(50_000),
    "quoted dotted key": ".".join(['"a"'] * 50_000) + " = 1",
    "dotted table": f"[{'.'.join('a' * 50_000)}]",
    "inline dotted key": f"x = {{{dotted(50_000)}}}",
    "brackets": f"x = {'[' * 20_000}{']' * 20_000}",
    "braces": f"x = {'{a=' * 20_000}1{'}' * 20_000}",
    "digits": f"x = {'9' * 5_000}",
    "negative digits": f"x = -{'9' * 5_000}",
    "fraction": f"x = 0.{'9' * 5_000}",
    "exponent": f"x = 1e{'9' * 5_000}",
    "hexadecimal": f"x = 0x{'f' * 5_000}",
    "underscores": f"x = {'_'.join('9' * 3_000)}",
    "open string": 'x = "' + "a" * 200_000,
    "open long strings": 'x = """' * 30_000,
    "open strings with quotes": 'x = "' + '\\"' * 100_000,
    "open strings one by one": "x = " + '\\"' * 100_000,
    "open strings in single quotes": "x = " + "'a\n" * 60_000,
    "open long strings with quotes": 'x = """' + '\\"""' * 40_000,
    "a long key before a dot": "x" * 200_000 + "-",
    "spaces and letters": "x = " + "y " * 100_000,
    "backslashes": 'x = "' + "\\" * 100_001 + '"',
    "many tables": "[[a]]\n" * 40_000,
    "not UTF-8": "x = '\udcff'",
}


QUOTES = ("open strings with quotes", "open long strings with quotes")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in QUOTES else name for name in HOSTILE]
)
def test_hostile_toml_is_refused_in_one_line_and_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_bytes(HOSTILE[name].encode(errors="surrogateescape"))
    for read in (Network.load, Preprocess.load, train.find_recipe):
        with bounded(), pytest.raises(base.CompoundNetError) as raised:
            read(str(file))
        assert str(raised.value).startswith(str(file))
        assert len(str(raised.value)) < 1000
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 20_000, f"{{{dotted(50_000)}}}", "1e400", "9" * 30, "-1"])
def test_hostile_settings_are_refused_in_one_line(value: str) -> None:
    for field in ("batch", "resolution", "name"):
        if field == "name" and len(value) < 100:
            continue
        with bounded(), pytest.raises(base.CompoundNetError) as raised:
            override(train.find_recipe("finetune"), [f"{field}={value}"])
        assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("setting", ["batch=1000001", "batch=99999999999999999999", "resolution=4097"])
def test_a_recipe_bounds_what_memory_depends_on(setting: str) -> None:
    with pytest.raises(base.CompoundNetError, match=r"at most|Integer value"):
        override(train.find_recipe("finetune"), [setting])


def test_a_network_of_a_million_blocks_is_refused() -> None:
    network = Network.loads(NETWORK.replace("REPEATS", "1000000"))
    for make in (arch.unroll, nn.build, expected_tensors):
        with bounded(), pytest.raises(base.CompoundNetError, match="n has 1,000,000 blocks, and 2,000 are the limit"):
            make(network)
    wide = Network.loads(NETWORK.replace("REPEATS", "1").replace("channels = 8", "channels = 8000000"))
    with bounded(), pytest.raises(base.CompoundNetError, match="a layer of 8,000,000 channels"):
        nn.build(wide)
    assert arch.cost(network).params > 0  # a formula


def test_an_input_of_a_million_pixels_a_side_is_refused() -> None:
    with pytest.raises(base.CompoundNetError, match="size must be at most 4,096 px, got 1000000"):
        Preprocess.loads("size = 1000000\ncrop = 0.9")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def socket(path: Path) -> None:
    import socket as sockets

    with sockets.socket(sockets.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "told"), [(pipe, "is a pipe"), (zero, "is a device"), (sparse, "is the limit"), (socket, "is a socket")]
)
def test_what_is_no_file_or_claims_a_terabyte_is_refused_at_once(
    make: Callable[[Path], None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    for name, read in (("n.toml", Network.load), ("labels.txt", lambda path: base.read_file(path, 1 << 20))):
        make(Path(name))
        with bounded(), pytest.raises(base.CompoundNetError, match=told):
            read(Path(name))
    make(Path("a.jpg"))
    with bounded(), pytest.raises(UnreadableImageError, match=told):
        read_image("a.jpg")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n",
            "Git LFS, not the file itself: run `git",
        ),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page, not the file itself: download it again"),
        (b"<HTML>", "is a web page"),
    ],
)
def test_what_came_in_place_of_an_image_or_weights_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.safetensors", "a.pth"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImageError, match=problem):
        read_image(tmp_path / "a.jpg")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(base.CompoundNetError, match=problem):
            read_foreign(tmp_path / name)
