"""The metadata of a .tflite file, in the format of the TensorFlow Lite Metadata tools, which mobile libraries read.

The model holds a flatbuffer named TFLITE_METADATA that describes input and output (schema of tflite-support 0.4.4,
metadata_schema.fbs: the numbers of tables' fields below are those of its order). Files that it names, the labels and
`compoundnet.json`, are in a zip archive that is appended to the model; any zip program reads them.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

from compoundnet.models import ExportedModel

LABELS, PROPERTIES = "labels.txt", "compoundnet.json"
_IDENTIFIER = b"M001"
# AssociatedFileType, ContentProperties, ColorSpaceType and ProcessUnitOptions of the schema.
_VALUE_LABELS, _IMAGE, _RGB, _NORMALIZATION = 3, 2, 1, 1
# The release whose schema this is.
_PARSER = "1.0.0"


def add_metadata(model: bytes, described: ExportedModel) -> bytes:
    """Return a .tflite model with its metadata and the archive of its files."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415  an extra
    from ai_edge_litert.tools import flatbuffer_utils  # noqa: PLC0415  as above

    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_metadata(described))
    tree.buffers.append(buffer)
    entry.name, entry.buffer = "TFLITE_METADATA", len(tree.buffers) - 1
    tree.metadata = [*(tree.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree)) + _archive(described)


def _archive(described: ExportedModel) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(PROPERTIES, json.dumps(described.properties()))
        if described.labels is not None:
            archive.writestr(LABELS, "\n".join(described.labels))
    return content.getvalue()


def _metadata(described: ExportedModel) -> bytes:
    """The flatbuffer, whose root is a ModelMetadata."""
    import flatbuffers  # noqa: PLC0415  comes with LiteRT

    how = described.preprocess
    builder = flatbuffers.Builder(1024)
    mean, std = (_floats(builder, [255 * value for value in values]) for values in (how.mean, how.std))
    normalisation = _table(builder, 2, {0: mean, 1: std})
    size = _table(builder, 2, {}, uints={0: how.size, 1: how.size})
    image = _table(builder, 2, {1: size}, bytes_={0: _RGB})
    image_content = _table(builder, 3, {1: image}, bytes_={0: _IMAGE})
    unit = _table(builder, 2, {1: normalisation}, bytes_={0: _NORMALIZATION})
    given = _table(
        builder,
        7,
        {
            0: builder.CreateString("images"),
            1: builder.CreateString(f"RGB image of {how.size} x {how.size} px: {how.describe()}"),
            3: image_content,
            4: _tables(builder, [unit]),
        },
    )
    files = []
    if described.labels is not None:
        files = [_table(builder, 5, {0: builder.CreateString(LABELS)}, bytes_={2: _VALUE_LABELS})]
    function = "sigmoid" if described.postprocess.multilabel else "softmax"
    logits = f"logits of the classes; {function}(logits / {described.postprocess.temperature:g}) are probabilities"
    found = _table(
        builder,
        7,
        {
            0: builder.CreateString("logits"),
            1: builder.CreateString(logits),
            **({6: _tables(builder, files)} if files else {}),
        },
    )
    graph = _table(builder, 10, {2: _tables(builder, [given]), 3: _tables(builder, [found])})
    properties = _table(builder, 5, {0: builder.CreateString(PROPERTIES)})
    root = _table(
        builder,
        8,
        {
            0: builder.CreateString(described.name),
            3: _tables(builder, [graph]),
            6: _tables(builder, [properties]),
            7: builder.CreateString(_PARSER),
        },
    )
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _table(
    builder: Any,
    fields: int,
    offsets: dict[int, int],
    *,
    uints: dict[int, int] | None = None,
    bytes_: dict[int, int] | None = None,
) -> int:
    """Write a table with that number of fields in the schema, and return its offset."""
    builder.StartObject(fields)
    for field, value in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, value, 0)
    for field, value in (uints or {}).items():
        builder.PrependUint32Slot(field, value, 0)
    for field, value in (bytes_ or {}).items():
        builder.PrependUint8Slot(field, value, 0)
    return int(builder.EndObject())


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    """A vector of tables."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
