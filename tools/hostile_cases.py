"""The cases of tools/hostile.py: the files that each needs, the command, and what happened before it was mended."""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import onnx
import torch
from PIL import Image
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from small_model import write_small_model

from compoundnet import models, runtime

Files = Callable[[Path], None]


class Case(NamedTuple):
    """What is given to a command.

    Attributes:
        what: What it is, in words.
        before: What happened before it was mended.
        words: The command, after `compoundnet`; or a program for `python -c` if it begins with `-c`.
        make: Writes the files into the folder that the command runs in.
        code: The right exit code.
        environment: Variables that differ.
        setup: What the shell does before the command, such as `ulimit -f 40;`, and what it appends.
        line: A part of the line that tells what was done about it; by default the error's.
        unbounded: Whether time or memory had no bound: they may not exceed SECONDS and BYTES.
    """

    what: str
    before: str
    words: Sequence[str]
    make: Files = lambda _: None
    code: int = 1
    environment: Mapping[str, str] = {}
    setup: tuple[str, str] = ("", "")
    line: str = "error: "
    unbounded: bool = False


class Payload:
    """Writes the file `code-ran` when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (Path("code-ran"), "code ran"))


def model(folder: Path) -> None:
    write_small_model(folder / "model")
    Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(folder / "photo.jpg")


def archive(change: Callable[[str, bytes], bytes], more: Mapping[str, bytes] | None = None) -> Files:
    """An exported `hostile.pt2` whose entries are changed, with `more` of them."""

    def make(folder: Path) -> None:
        model(folder)
        runtime.export(models.open_folder(folder / "model"), folder / "m.pt2", format="torch")
        with zipfile.ZipFile(folder / "m.pt2") as old, zipfile.ZipFile(folder / "hostile.pt2", "w") as new:
            top = old.namelist()[0].partition("/")[0]
            added = {f"{top}/{name}": content for name, content in (more or {}).items()}
            for name, content in ({name: change(name, old.read(name)) for name in old.namelist()} | added).items():
                new.writestr(name, content)

    return make


def with_pickled_inputs(folder: Path) -> None:
    torch.save(Payload(), folder / "payload")
    content = (folder / "payload").read_bytes()
    archive(lambda _, old: old, {"data/sample_inputs/model.pt": content})(folder)


def with_pickled_weights(folder: Path) -> None:
    torch.save(Payload(), folder / "payload")
    content = (folder / "payload").read_bytes()

    def change(name: str, old: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            return old.replace(b'"use_pickle": false', b'"use_pickle": true')
        return content if "/data/weights/" in name else old

    archive(change)(folder)


def with_large_metadata(folder: Path) -> None:
    archive(lambda _, old: old)(folder)
    with zipfile.ZipFile(folder / "hostile.pt2", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as whole:
        top = whole.namelist()[0].partition("/")[0]
        with whole.open(f"{top}/extra/compoundnet.note", "w", force_zip64=True) as entry:
            for _ in range(3 << 10):
                entry.write(b"\n" * (1 << 20))


def edited(file: str, change: Callable[[str], str]) -> Files:
    """The small model with another text in one of its files."""

    def make(folder: Path) -> None:
        model(folder)
        path = folder / "model" / file
        path.write_text(change(path.read_text()))

    return make


def written(file: str, text: str) -> Files:
    def make(folder: Path) -> None:
        model(folder)
        (folder / file).write_text(text)

    return make


def classes(folder: Path, count: int = 12) -> None:
    """Folders `0` to `11` of grey images, a model that has no names for its classes, and a list of the same images."""
    write_small_model(folder / "model", classes=count, labelled=False)
    lines = ["path,label"]
    for label in range(count):
        (folder / "data" / str(label)).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.full((40, 40, 3), 20 * label, np.uint8)).save(folder / "data" / str(label) / name)
            lines.append(f"data/{label}/{name},{label}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")


def with_entry(make: Callable[[Path], None]) -> Files:
    """Folders of images, one of which holds an entry that is no file."""

    def both(folder: Path) -> None:
        model(folder)
        classes(folder / "photos", 3)
        make(folder / "photos" / "data" / "0" / "x.jpg")

    return both


def checkpoint(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Files:
    def make(folder: Path) -> None:
        model(folder)
        state = {name: tensor.clone() for name, tensor in models.load(folder / "model").state_dict().items()}
        torch.save(change(state), folder / "weights.pth")

    return make


def not_finite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state["stem.conv.weight"] *= float("nan")
    return state


def quantised(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "stem.conv.weight"
    return state | {name: torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8)}


def outside_weights(folder: Path) -> None:
    """An ONNX file whose weights are said to be in /etc/passwd."""
    model(folder)
    runtime.export(models.open_folder(folder / "model"), folder / "m.onnx")
    proto = onnx.load(folder / "m.onnx")
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
    (folder / "hostile.onnx").write_bytes(proto.SerializeToString())


def piped(folder: Path) -> None:
    model(folder)
    os.mkfifo(folder / "pipe.jpg")


def not_utf8(folder: Path) -> None:
    model(folder)
    (folder / "photo.jpg").rename(folder / os.fsdecode(b"caf\xe9.jpg"))


def linked_output(folder: Path) -> None:
    model(folder)
    (folder / "kept").mkdir()
    (folder / "out.onnx").symlink_to(folder / "kept" / "real.onnx")


def wrapped_postscript(folder: Path) -> None:
    """PostScript inside an image of another format, and a stand-in for Ghostscript."""
    model(folder)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    fields = [(3, 20, b"\0\x0a"), (3, 30, b"\0\x0a"), (3, 60, b"\x01\0"), (3, 120, b"\x05"), (8, 10, eps)]
    content = b"".join(struct.pack(">BBBH", 0x1C, *place, len(value)) + value for *place, value in fields)
    (folder / "photo.jpg").write_bytes(content)
    (folder / "gs").write_text("#!/bin/sh\ntouch code-ran\n")
    (folder / "gs").chmod(0o755)


def many_scans(folder: Path) -> None:
    """A baseline JPEG of 49 megapixels whose scans hold a colour channel each."""
    model(folder)
    Image.new("RGB", (7000, 7000)).save(folder / "photo.jpg", subsampling=0)
    content = (folder / "photo.jpg").read_bytes()
    scan = b"".join(b"\xff\xda\0\x08\x01" + bytes([channel]) + b"\0\0\x3f\0" for channel in (1, 2, 3))
    (folder / "photo.jpg").write_bytes(content[: content.index(b"\xff\xda")] + scan * 600_000 + b"\xff\xd9")


def with_large_weights(folder: Path) -> None:
    """An archive with the weight of a convolution unpacked to 3 GB."""
    archive(lambda _, old: old)(folder)
    with zipfile.ZipFile(folder / "hostile.pt2") as old:
        top = old.namelist()[0].partition("/")[0]
        config = json.loads(old.read(f"{top}/data/weights/model_weights_config.json"))
    next(iter(config["config"].values()))["path_name"] = "large"
    changed = json.dumps(config).encode()
    with (
        zipfile.ZipFile(folder / "hostile.pt2") as old,
        zipfile.ZipFile(folder / "new.pt2", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, changed if name.endswith("model_weights_config.json") else old.read(name))
        with new.open(f"{top}/data/weights/large", "w", force_zip64=True) as entry:
            for _ in range(3 << 10):
                entry.write(bytes(1 << 20))
    (folder / "new.pt2").replace(folder / "hostile.pt2")


def with_empty_weights(folder: Path) -> None:
    """A Keras file of 5 MB with 2,000 weights of 5 MB each, of which none is stored."""
    with h5py.File(folder / "weights.h5", "w") as file:
        file.attrs["layer_names"] = ["stem_conv"]
        layer = file.create_group("stem_conv")
        layer["large:0"] = np.zeros(5 << 18, np.float32)
        for number in range(2000):
            layer.create_dataset(f"kernel_{number}:0", (5 << 18,), "f4", chunks=(5 << 18,))


def with_large_description(folder: Path) -> None:
    """An ONNX file whose network is 30 MB of empty tables."""
    model(folder)
    runtime.export(models.open_folder(folder / "model"), folder / "m.onnx")
    proto = onnx.load(folder / "m.onnx")
    entry = next(entry for entry in proto.metadata_props if entry.key == "compoundnet.network")
    entry.value = "".join(f"[a{number}]\n" for number in range(3_000_000))
    (folder / "hostile.onnx").write_bytes(proto.SerializeToString())


def many_stems(folder: Path) -> None:
    state = {f"x{number}.stem.conv.weight": np.zeros((1, 1, 1, 1), np.float32) for number in range(20_000)}
    save_file(state, folder / "weights.safetensors")


PREDICT = ("predict", "model", "photo.jpg")
FORK = """
import os, sys, numpy as np, compoundnet as cn
predictor = cn.Predictor("model", backend="torch")
image = np.zeros((40, 40, 3), np.uint8)
predictor(image)
child = os.fork()
if child == 0:
    try:
        predictor(image)
    except cn.CompoundNetError as error:
        print("error:", error, file=sys.stderr, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
CASES = (
    Case(
        "a `.pt2` file with a pickle as its sample inputs", "ran its code, printed probabilities, exit code 0",
        ("predict", "hostile.pt2", "photo.jpg"), with_pickled_inputs, 0, line="%",
    ),
    Case(
        "a `.pt2` file whose weights are a pickle", "ran its code, printed probabilities, exit code 0",
        ("predict", "hostile.pt2", "photo.jpg"), with_pickled_weights,
    ),
    Case(
        "an image that wraps PostScript", "ran Ghostscript on it, where it is installed", PREDICT, wrapped_postscript,
        environment={"PATH": f".{os.pathsep}{os.environ['PATH']}"},
    ),
    Case(
        "a JPEG of 1.8 million scans of one channel each", "hours", PREDICT, many_scans, unbounded=True,
    ),
    Case(
        "a `.pt2` file with a weight that unpacks to 3 GB", "7.2 GB, 30 s, exit code 0",
        ("predict", "hostile.pt2", "photo.jpg"), with_large_weights, unbounded=True,
    ),
    Case(
        "a Keras file with 2,000 weights of 5 MB that are not stored", "11 GB, 40 s",
        ("models", "convert", "weights.h5", "-o", "out"), with_empty_weights, unbounded=True,
    ),
    Case(
        "3 million tables in the metadata of an `.onnx` file", "2.9 GB, 49 s",
        ("predict", "hostile.onnx", "photo.jpg"), with_large_description, unbounded=True,
    ),
    Case(
        "a checkpoint of 20,000 tensors named like a stem", "195 s",
        ("models", "convert", "weights.safetensors", "-o", "out"), many_stems, unbounded=True,
    ),
    Case(
        "`repeats = 1000000` in a network", "6.6 GB after 60 s", PREDICT,
        edited("network.toml", lambda text: text.replace("repeats = 1\n", "repeats = 1000000\n", 1)), unbounded=True,
    ),
    Case(
        "a dotted key of 50,000 parts", "14.7 GB, 40 s", ("describe", "net.toml"),
        written("net.toml", ".".join("a" * 50_000) + " = 1\n"), unbounded=True,
    ),
    Case(
        "an archive whose metadata unpack to 3 GB", "5.9 GB, 45 s",
        ("predict", "hostile.pt2", "photo.jpg"), with_large_metadata, unbounded=True,
    ),
    Case(
        "a pipe among the images", "hung",
        ("data", "check", "photos/data"), with_entry(os.mkfifo), 0, line="note: ", unbounded=True,
    ),
    Case(
        "a link to /dev/zero among the images", "8.6 GB", ("data", "check", "photos/data"),
        with_entry(lambda path: path.symlink_to("/dev/zero")), 0, line="note: ", unbounded=True,
    ),
    Case(
        "a pipe as the image", "hung", ("predict", "model", "pipe.jpg"),
        piped, unbounded=True,
    ),
    Case(
        "preprocessing to a million pixels a side", "gigabytes", PREDICT,
        edited("preprocess.toml", lambda text: text.replace("size = 32", "size = 1000000")), unbounded=True,
    ),
    Case(
        "an integer of 5,000 digits in a recipe", "a traceback",
        ("train", "digits", "--network", "efficientnet-b0", "--recipe", "r.toml"),
        written("r.toml", f"epochs = {'9' * 5000}\n"), unbounded=True,
    ),
    Case(
        "20,000 nested brackets in `--set`", "a traceback",
        ("train", "digits", "--network", "efficientnet-b0", "--set", f"lr={'[' * 20_000}"), unbounded=True,
    ),
    Case(
        "a model without class names, folders `0` to `11`", "55.6 % where a list of the same images gave 6.9 %",
        ("evaluate", "model", "data"), classes, 0, line="has no class names",
    ),
    Case(
        "the same images as a list", "6.9 %, no word",
        ("evaluate", "model", "list.csv"), classes, 0, line="has no class names",
    ),
    Case(
        "a checkpoint with NaN", "converted, exit code 0; `export` then said it was our fault",
        ("models", "convert", "weights.pth", "--network", "model/network.toml", "-o", "out"), checkpoint(not_finite),
    ),
    Case(
        "a quantised tensor in a checkpoint", "a traceback",
        ("models", "convert", "weights.pth", "--network", "model/network.toml", "-o", "out"), checkpoint(quantised),
    ),
    Case(
        "an output that is a link", "the link was replaced", ("export", "model", "-o", "out.onnx"), linked_output, 0,
        setup=("", "&& test -L out.onnx -a -s kept/real.onnx"), line="wrote",
    ),
    Case(
        "`reproduce table1 -o a.html`", "a folder a.html", ("reproduce", "table1", "-o", "a.html"),
        setup=("test -e a.html ||", ""),
    ),
    Case(
        "an output in folders that do not exist", "an error", ("export", "model", "-o", "new/folder/x.onnx"), model, 0,
        setup=("", "&& test -s new/folder/x.onnx"), line="wrote",
    ),
    Case(
        "a full disk in `export --format torch`", "SIGABRT with a C++ trace",
        ("export", "model", "--format", "torch", "-o", "x.pt2"), model, setup=("ulimit -f 40;", ""),
    ),
    Case(
        "a cache folder that cannot be written", "the packaged models failed, COMPOUNDNET_CACHE was not named",
        ("predict", "efficientnet-lite0", "photo.jpg"), model, 0, {"COMPOUNDNET_CACHE": "/proc/none"}, line="cache",
    ),
    Case(
        "a working directory that was deleted", "an error of oneMKL", ("describe", "efficientnet-b0"),
        setup=("mkdir gone; cd gone; rmdir ../gone;", ""),
    ),
    Case("a predictor after `os.fork`", "hung", ("-c", FORK), model, 0),
    Case(
        "no network", "23.8 s to the error", ("models", "fetch", "hf-hub:owner/name"),
        environment={"HF_ENDPOINT": "https://hub.invalid"}, unbounded=True,
    ),
    Case(
        "`explain` of a name that is not UTF-8", "a traceback", ("explain", "model", ".", "-o", "maps"),
        not_utf8, 0, line="wrote ",
    ),
    Case("closed standard output", "a traceback", ("describe", "efficientnet-b0"), setup=("", ">&-")),
    Case(
        "ONNX weights in /etc/passwd", "a traceback", ("predict", "hostile.onnx", "photo.jpg"), outside_weights,
    ),
)  # fmt: skip
