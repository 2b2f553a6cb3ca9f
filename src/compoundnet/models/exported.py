"""Exported files, which are complete models: their metadata contain the network, preprocessing and labels.

.onnx    metadata_props, keys `compoundnet.*`
.xml     OpenVINO's IR (weights in the .bin beside it), rt_info/compoundnet
.pt2     torch.export's archive, extra files `compoundnet.*`
.tflite  LiteRT; `compoundnet.json` in the zip archive appended to the model
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, check_file, format_bytes, limits
from compoundnet.models.labels import check_labels
from compoundnet.models.model import PREFIX, ExportedModel
from compoundnet.models.postprocess import Postprocess
from compoundnet.models.preprocess import Preprocess
from compoundnet.models.zip_files import ZIP_ERRORS, read_entry

if TYPE_CHECKING:
    import onnx

# Operators of ONNX and OpenVINO that run a part of the graph as often as the file says.
LOOPS = frozenset({"Loop", "Scan", "SequenceMap", "TensorIterator"})


def is_exported(model: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an exported file."""
    return Path(model).suffix.lower() in _READERS


def open_exported(path: str | os.PathLike[str]) -> ExportedModel:
    """Read the metadata of an exported file. Does not import torch.

    Raises:
        CompoundNetError: The file does not exist, is damaged, or was not written by `compoundnet export`.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        raise CompoundNetError(f"{file}: an exported model ends in {', '.join(_READERS)}")
    if not file.exists():
        raise CompoundNetError(f"there is no file {file}")
    check_file(file, limits.WEIGHTS_BYTES)
    return from_properties(_READERS[suffix](file), file)


def from_properties(properties: Mapping[str, str], file: Path) -> ExportedModel:
    """Return the model that a file's metadata describes."""
    found = {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}
    missing = [key for key in ("name", "network", "preprocess", "precision") if key not in found]
    if missing:
        raise CompoundNetError(
            f"{file} is not an exported model of compoundnet: its metadata holds no {PREFIX}{missing[0]}."
            " `compoundnet export MODEL -o FILE` writes one that knows its preprocessing and labels"
        )
    network = Network.loads(found["network"], f"{file}, {PREFIX}network")
    labels = tuple(found["labels"].split("\n")) if "labels" in found else None
    if labels is not None:
        check_labels(labels, network.num_classes, f"{file}, {PREFIX}labels")
    # Files of earlier versions do not hold it: their classes exclude one another.
    postprocess = Postprocess.loads(found.get("postprocess", ""), f"{file}, {PREFIX}postprocess")
    postprocess.check_classes(network.num_classes, f"{file}, {PREFIX}postprocess")
    return ExportedModel(
        name=found["name"],
        network=network,
        preprocess=Preprocess.loads(found["preprocess"], f"{file}, {PREFIX}preprocess"),
        labels=labels,
        postprocess=postprocess,
        precision=found["precision"],
        dynamic_batch=found.get("dynamic_batch") == "true",
        dynamic_size=found.get("dynamic_size") == "true",
        file=file,
        features=found.get("features") == "true",
        with_preprocessing=found.get("with_preprocessing") == "true",
    )


def _onnx(file: Path) -> dict[str, str]:
    # ONNX Runtime is not used: it cannot load every valid file of other origin, and is no faster.
    import onnx  # noqa: PLC0415  takes 0.1 s to import, and only ONNX files need it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        model = onnx.load(file, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise CompoundNetError(f"{file} is no ONNX file, or it is damaged: {error}") from error
    if not model.HasField("graph"):
        raise CompoundNetError(f"{file} is no ONNX file, or it is damaged: it holds no graph")
    for part in _parts(model):
        if part.DESCRIPTOR.name == "TensorProto" and (part.data_location or part.external_data):
            raise CompoundNetError(
                f"{file}: its tensor {part.name} lies in another file, which was not read. An exported file holds its"
                " weights itself; `compoundnet export MODEL -o FILE` writes one"
            )
        if part.DESCRIPTOR.name == "FunctionProto" or (part.DESCRIPTOR.name == "NodeProto" and part.op_type in LOOPS):
            raise unbounded(file, part.name or part.op_type)
    check_metadata(sum(len(entry.value) for entry in model.metadata_props), file)
    return {entry.key: entry.value for entry in model.metadata_props}


def _parts(model: onnx.ModelProto) -> Iterator[Any]:
    """All messages that an ONNX model consists of, also those of subgraphs and functions."""
    from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]  # noqa: PLC0415  as above
    from google.protobuf.message import Message  # noqa: PLC0415

    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend([value] if isinstance(value, Message) else value)


def unbounded(file: Path, part: str) -> CompoundNetError:
    """The error for a graph whose work may be any multiple of its size."""
    return CompoundNetError(
        f"{file}: its graph has a loop or a function ({part}), so that nothing bounds its work; it was not run."
        " `compoundnet export MODEL -o FILE` writes neither"
    )


def check_metadata(size: int, file: Path) -> None:
    """Raise a CompoundNetError if the metadata of a file are larger than any model's."""
    if size > limits.METADATA_BYTES:
        raise CompoundNetError(
            f"{file}: its metadata have {format_bytes(size)}, and {format_bytes(limits.METADATA_BYTES)} is the limit"
        )


def _openvino(file: Path) -> dict[str, str]:
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise CompoundNetError(f"{file} needs its weights, {weights.name}, beside it")
    check_file(file, limits.METADATA_BYTES)
    check_file(weights, limits.WEIGHTS_BYTES)
    try:
        tree = ET.parse(file)
    except (ET.ParseError, ValueError) as error:
        raise CompoundNetError(f"{file} is not OpenVINO's IR, or it is damaged: {error}") from error
    looped = next((layer for layer in tree.getroot().iter("layer") if layer.get("type") in LOOPS), None)
    if looped is not None:
        raise unbounded(file, looped.get("name", ""))
    found = tree.getroot().findall("./rt_info/compoundnet/*")
    return {PREFIX + element.tag: element.get("value", "") for element in found}


def _torch(file: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if Path(entry.filename).name.startswith(PREFIX)]
            check_metadata(sum(entry.file_size for entry in entries), file)
            return {
                Path(entry.filename).name: read_entry(archive, entry, limits.METADATA_BYTES, file).decode()
                for entry in entries
            }
    except ZIP_ERRORS as error:
        raise CompoundNetError(f"{file} is not an archive of torch.export, or it is damaged: {error}") from error


def _litert(file: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo("compoundnet.json")
            check_metadata(entry.file_size, file)
            text = read_entry(archive, entry, limits.METADATA_BYTES, file)
        return msgspec.json.decode(text, type=dict[str, str])
    except (*ZIP_ERRORS, KeyError, msgspec.DecodeError) as error:
        raise CompoundNetError(
            f"{file} is no .tflite file that `compoundnet export` wrote, or it is damaged: {error}"
        ) from error


_READERS = {".onnx": _onnx, ".xml": _openvino, ".pt2": _torch, ".tflite": _litert}
