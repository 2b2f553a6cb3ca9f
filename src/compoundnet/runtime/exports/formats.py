"""The formats of exported files, and the function that writes each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models import ExportedModel
from compoundnet.nn import ConvNet
from compoundnet.runtime.backends.openvino import write_graph
from compoundnet.runtime.exports.quantise import quantise
from compoundnet.runtime.exports.torch_archive import write_archive
from compoundnet.runtime.onnx_graph import OPSET, write_onnx
from compoundnet.runtime.onnx_preprocess import add_preprocessing

# Returns the images for calibration anew, each float32[C, H, W].
Images = Callable[[], Iterable[NDArray[np.float32]]]


class Source(msgspec.Struct, frozen=True):
    """What is written to a file.

    Attributes:
        net: The network in eval mode, norms not folded.
        described: The metadata of the file.
        calibration: Returns the images that int8 is calibrated on.
        opset: Of ONNX.
    """

    net: ConvNet
    described: ExportedModel
    calibration: Images
    opset: int = OPSET


class Format(msgspec.Struct, frozen=True):
    """A format of exported files.

    Attributes:
        name: The name in options, messages and results.
        suffix: The suffix of its file.
        write: Writes a file. The arguments are the source and the path.
        precisions: The precisions that it can hold.
        needs: The libraries that write and run it, by their import names, each with the extra that installs it.
        dynamic: Whether it can accept any number of images and any size.
        folder: Whether the file is a folder.
        runs: Whether this machine can run it; otherwise its writer compares the structure.
    """

    name: str
    suffix: str
    write: Callable[[Source, Path], None]
    precisions: tuple[str, ...] = ("float32", "float16", "int8")
    needs: tuple[tuple[str, str], ...] = ()
    dynamic: bool = True
    folder: bool = False
    runs: bool = True


def _write_onnx(source: Source, file: Path) -> None:
    described = source.described
    if described.precision == "int8":
        with _between(file) as float32:
            _write_graph(source, float32)
            quantise(float32, file, source.calibration(), described.properties())
    else:
        _write_graph(source, file)
    onnx.checker.check_model(file, full_check=True)


def _write_graph(source: Source, file: Path) -> None:
    described = source.described
    write_onnx(
        source.net.fuse(),
        file,
        channels=described.network.in_channels,
        size=described.preprocess.size,
        dynamic_batch=described.dynamic_batch,
        dynamic_size=described.dynamic_size,
        half=described.precision == "float16",
        features=described.features,
        properties=described.properties(),
        opset=source.opset,
    )


def include_preprocessing(file: Path, described: ExportedModel, target: Path) -> None:
    """Write an ONNX file that preprocesses images itself, from one that does not."""
    model = onnx.load(file)
    add_preprocessing(model, described.preprocess, described.postprocess)
    onnx.save_model(model, target)
    onnx.checker.check_model(target, full_check=True)


def _write_openvino(source: Source, file: Path) -> None:
    with _between(file) as graph:
        _write_onnx(source, graph)
        write_graph(graph, file, source.described.properties())


@contextmanager
def _between(file: Path) -> Iterator[Path]:
    """A path for an intermediate ONNX file: in a separate folder, so that it never is `file` itself."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        yield Path(folder) / "graph.onnx"


def _write_torch(source: Source, file: Path) -> None:
    write_archive(source.net.fuse(), source.described, file)


def _write_litert(source: Source, file: Path) -> None:
    from compoundnet.runtime.exports import litert  # noqa: PLC0415  an extra

    described = source.described
    model = litert.convert(source.net, described.preprocess.size)
    if described.precision == "float16":
        model = litert.halve(model)
    elif described.precision == "int8":
        model = litert.LitertQuantiser(model, source.calibration()).quantised()
    litert.write_litert(model, described, file)


def _write_coreml(source: Source, package: Path) -> None:
    from compoundnet.runtime.exports.coreml import write_coreml  # noqa: PLC0415  an extra

    write_coreml(source.net, source.described, package)


_LITERT = tuple((library, "litert") for library in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"))
FORMATS = {
    found.name: found
    for found in (
        Format("onnx", ".onnx", _write_onnx),
        Format("openvino", ".xml", _write_openvino, needs=(("openvino", "openvino"),)),
        Format("torch", ".pt2", _write_torch, precisions=("float32", "float16")),
        Format("litert", ".tflite", _write_litert, needs=_LITERT, dynamic=False),
        Format(
            "coreml",
            ".mlpackage",
            _write_coreml,
            precisions=("float32", "float16"),
            needs=(("coremltools", "coreml"),),
            dynamic=False,
            folder=True,
            runs=False,
        ),
    )
}


def find_format(name: str | None, file: Path) -> Format:
    """Return the format of that name; without a name the one that the suffix of the file belongs to.

    Raises:
        CompoundNetError: There is no such format, or the suffix is that of another one.
    """
    if name is None:
        by_suffix = next((found for found in FORMATS.values() if found.suffix == file.suffix.lower()), None)
        if by_suffix is None:
            known = ", ".join(f"{found.suffix} ({found.name})" for found in FORMATS.values())
            raise CompoundNetError(f"the suffix of an exported file says its format: {known}; got {file.name}")
        return by_suffix
    if name not in FORMATS:
        raise CompoundNetError(f"there is no format {name!r}{did_you_mean(name, FORMATS)}")
    if file.suffix != FORMATS[name].suffix:
        raise CompoundNetError(f"a file of format {name} must end in {FORMATS[name].suffix}, got {file.name}")
    return FORMATS[name]
