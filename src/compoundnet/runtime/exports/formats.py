"""The formats of exported files, and the function that writes each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean, need
from compoundnet.models import ExportedModel
from compoundnet.nn import ConvNet
from compoundnet.runtime.backends.openvino import write_graph
from compoundnet.runtime.exports.accuracy_floor import Quantiser
from compoundnet.runtime.exports.quantise import OnnxQuantiser
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
        to_nearest: Whether int8 rounds each weight to the nearest step, as LiteRT does anyway.
    """

    net: ConvNet
    described: ExportedModel
    calibration: Images
    opset: int = OPSET
    to_nearest: bool = False


class Format(msgspec.Struct, frozen=True):
    """A format of exported files.

    Attributes:
        name: The name in options, messages and results.
        suffix: The suffix of its file.
        write: Writes a file in float32 or float16. The arguments are the source and the path.
        quantiser: Calibrates int8. The arguments are the source and a folder for temporary files. None if the format
            has no int8.
        needs: The libraries that write and run it, by their import names, each with the extra that installs it.
        dynamic: Whether it can accept any number of images and any size.
        folder: Whether the file is a folder.
        runs: Whether this machine can run it; otherwise its writer compares the structure.
    """

    name: str
    suffix: str
    write: Callable[[Source, Path], None]
    quantiser: Callable[[Source, Path], Quantiser] | None = None
    needs: tuple[tuple[str, str], ...] = ()
    dynamic: bool = True
    folder: bool = False
    runs: bool = True

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that it can hold."""
        return ("float32", "float16", "int8")[: 2 + (self.quantiser is not None)]

    def check_installed(self) -> None:
        """Raise a CompoundNetError that says what to install if a library is missing."""
        for library, extra in self.needs:
            need(library, f"the format {self.name}", extra)


def _write_onnx(source: Source, file: Path) -> None:
    _write_graph(source, file)
    onnx.checker.check_model(file, full_check=True)


def _quantise_onnx(source: Source, folder: Path) -> OnnxQuantiser:
    with _between(folder) as float32:
        _write_graph(source, float32)
        properties = source.described.properties()
        return OnnxQuantiser(float32, source.calibration(), properties, to_nearest=source.to_nearest)


def _write_graph(source: Source, file: Path, *, one_file: bool = True) -> None:
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
        one_file=one_file,
        opset=source.opset,
    )


def include_preprocessing(file: Path, described: ExportedModel, target: Path) -> None:
    """Write an ONNX file that preprocesses images itself, from one that does not."""
    model = onnx.load(file)
    add_preprocessing(model, described.preprocess, described.postprocess)
    onnx.save_model(model, target)
    onnx.checker.check_model(target, full_check=True)


def _write_openvino(source: Source, file: Path) -> None:
    with _between(file.parent) as graph:
        _write_graph(source, graph, one_file=False)
        write_graph(graph, file, source.described.properties())


class _OpenvinoQuantiser:
    """OpenVINO reads the QuantizeLinear and DequantizeLinear of ONNX as its own int8."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._onnx, self._properties = _quantise_onnx(source, folder), source.described.properties()
        self.layers = self._onnx.layers

    def write(self, file: Path, float32: Collection[str] = ()) -> None:
        with _between(file.parent) as graph:
            self._onnx.write(graph, float32)
            write_graph(graph, file, self._properties)


@contextmanager
def _between(folder: Path) -> Iterator[Path]:
    """A path for an intermediate ONNX file: in a separate folder, so that it never is the one to write."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch) / "graph.onnx"


def _write_torch(source: Source, file: Path) -> None:
    write_archive(source.net.fuse(), source.described, file)


def _write_litert(source: Source, file: Path) -> None:
    from compoundnet.runtime.exports import litert  # noqa: PLC0415  an extra

    model = litert.convert(source.net, source.described.preprocess.size)
    litert.write_litert(
        litert.halve(model) if source.described.precision == "float16" else model, source.described, file
    )


def _quantise_litert(source: Source, _: Path) -> Quantiser:
    from compoundnet.runtime.exports import litert  # noqa: PLC0415  an extra

    model = litert.convert(source.net, source.described.preprocess.size)
    return litert.LitertQuantiser(model, source.calibration(), source.described)


def _write_coreml(source: Source, package: Path) -> None:
    from compoundnet.runtime.exports.coreml import write_coreml  # noqa: PLC0415  an extra

    write_coreml(source.net, source.described, package)


_LITERT = tuple((library, "litert") for library in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"))
FORMATS = {
    found.name: found
    for found in (
        Format("onnx", ".onnx", _write_onnx, _quantise_onnx),
        Format("openvino", ".xml", _write_openvino, _OpenvinoQuantiser, needs=(("openvino", "openvino"),)),
        Format("torch", ".pt2", _write_torch),
        Format("litert", ".tflite", _write_litert, _quantise_litert, needs=_LITERT, dynamic=False),
        Format(
            "coreml",
            ".mlpackage",
            _write_coreml,
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
