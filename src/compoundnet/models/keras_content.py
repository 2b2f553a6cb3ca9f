"""What a Keras file holds: every weight by layer and name, and the layers that the file states.

Three forms of the same content are read: `.h5` (Keras 2 and 3; names as in the model), `.weights.h5` (Keras 3; layers
by type and number, in newer versions with their names), and `.keras` (a zip with the latter, which Keras 2 writes too).
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, check_file, format_bytes, limits, need
from compoundnet.models.keras_layers import FIRST, KerasLayer, flat_layers
from compoundnet.models.layouts.keras import LAYOUT
from compoundnet.models.zip_files import entry_named, read_entry

_Array = npt.NDArray[Any]
_ZIP = b"PK\x03\x04"
_IN_ZIP = "model.weights.h5"
# The groups in which Keras 3, and Keras 2.12 and 2.13, store the layers of a model.
_NUMBERED = ("layers", "_layer_checkpoint_dependencies")
# Keras 3 numbers a layer's weights in the order the layer makes them.
_WEIGHTS_OF = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel",),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
    "normalization": ("mean", "variance", "count"),
}
_TYPE_OF = {
    "conv": "conv2d",
    "squeeze": "conv2d",
    "depthwise": "depthwise_conv2d",
    "norm": "batch_normalization",
    "dense": "dense",
}
# HDF5's numbers of filters: gzip, and two that do not change the size, the order of bytes and a checksum.
_DEFLATE = 1
_FILTERS = {_DEFLATE, 2, 3}
NORMALIZATION, _RESCALING = re.compile(r"normalization(_\d+)?"), re.compile(r"rescaling(_\d+)?")


class Content(msgspec.Struct):
    """tensors: by layer and weight, `stem_conv/kernel`; rescalings: the number of Rescaling layers, None if the file
    does not show it; layers: as the file states them, none in a file of weights alone."""

    tensors: dict[str, _Array]
    rescalings: int | None
    layers: list[KerasLayer]


def read_content(path: Path, network: Network | None) -> Content:
    """Read what a file holds; `network` as for `read_keras`."""
    with _opened(path) as (file, model):
        return _content(file, path, network, model)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Open the h5py.File of a path, also inside a zip, and read the model that the file states ({} if none). Errors
    while it is open are reported as a damaged file."""
    need("h5py", "reading Keras files")
    import h5py  # noqa: PLC0415  an extra

    if path.exists() and not path.is_dir():
        check_file(path, limits.WEIGHTS_BYTES)
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == _ZIP
            file.seek(0)
            if not zipped:
                with h5py.File(file, "r") as content:
                    yield content, _model(content.attrs.get("model_config"))
                return
            with zipfile.ZipFile(file) as archive:
                if _IN_ZIP not in archive.namelist():
                    raise CompoundNetError(f"{path} is a zip file without {_IN_ZIP} in it, so no .keras file")
                stated = entry_named(archive, "config.json")
                model = {} if stated is None else _model(read_entry(archive, stated, limits.METADATA_BYTES, path))
                with archive.open(_IN_ZIP) as member, h5py.File(member, "r") as content:
                    yield content, model
    except CompoundNetError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damage can raise any exception inside h5py and zipfile
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise CompoundNetError(
            f"{path} is no HDF5 or .keras file, or it is truncated or damaged: {reason}; get the file again"
        ) from error


def _model(text: str | bytes | None) -> Mapping[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, Mapping) else {}


def _content(file: Any, path: Path, network: Network | None, model: Mapping[str, Any]) -> Content:
    layers = list(flat_layers(model)) if model else []
    root = file.get("model_weights", file)  # a whole model stores its weights next to those of its optimiser
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:  # split if there are many
        return _named(root, layers, _Reader(path))
    if any(group in file for group in _NUMBERED):
        tensors: dict[str, _Array] = {}
        rescalings = _numbered(file, path, network, model, tensors, _Reader(path))
        return Content(tensors, rescalings, layers)
    raise CompoundNetError(f"{path} is an HDF5 file without Keras layers in it")


def _named(root: Any, layers: list[KerasLayer], reader: _Reader) -> Content:
    """`stem_conv/stem_conv/kernel:0`: the layer's group, then the weight's name, in Keras 2 with a number."""
    tensors = {}
    for name, dataset in _datasets(root):
        *_, layer, weight = name.split("/")
        weight = weight.removesuffix(":0")
        tensors[f"{layer}/{'kernel' if weight == 'depthwise_kernel' else weight}"] = reader.array(dataset)
    inside = not any(
        name in root for name in (FIRST, f"{FIRST}_pad")
    )  # of a model inside, layers without weights are not shown
    return Content(tensors, None if inside else sum(1 for name in root if _RESCALING.fullmatch(name)), layers)


def _numbered(
    container: Any,
    path: Path,
    network: Network | None,
    model: Mapping[str, Any],
    tensors: dict[str, _Array],
    reader: _Reader,
) -> int:
    """`conv2d_3/vars/0`: the layer's type and number, then the weight's number; in a model inside, below its own group.

    Adds to `tensors`, and returns the number of Rescaling layers beside the network.
    """
    root = next(container[group] for group in _NUMBERED if group in container)
    inner = {
        layer for layer in root if hasattr(root[layer], "keys") and any(group in root[layer] for group in _NUMBERED)
    }
    stated = _stated_layers(model)
    names = _layer_names(root, path, network, stated)
    rescalings = 0
    for layer in root:
        reader.enter(root[layer])
        if layer in inner:
            rescalings += _numbered(root[layer], path, network, stated.get(layer, {}), tensors, reader)
            continue
        for name, dataset in _datasets(root[layer]):
            _, _, number = f"/{name}".partition("/vars/")
            weights = _WEIGHTS_OF.get(_split(layer)[0], ())
            known = number.isdigit() and int(number) < len(weights)
            key = f"{names.get(layer, layer)}/{weights[int(number)] if known else number}"
            if key in tensors:
                raise CompoundNetError(
                    f"{path} holds two layers named {key.split('/', maxsplit=1)[0]}; rename one of them in Keras"
                )
            tensors[key] = reader.array(dataset)
    if any(NORMALIZATION.fullmatch(layer) for layer in root):
        rescalings += sum(1 for layer in root if _RESCALING.fullmatch(layer))
    elif not model and any(_RESCALING.fullmatch(layer) for layer in root):
        raise CompoundNetError(
            f"{path} holds weights alone, and a Rescaling layer before the network, whose factor is not among them;"
            " save the whole model in Keras: model.save('model.keras')"
        )
    return rescalings


def _stated_layers(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The layers directly in a model, by the names of their groups in a numbered file."""
    found: dict[str, Mapping[str, Any]] = {}
    config = model.get("config")
    for layer in config.get("layers", ()) if isinstance(config, Mapping) else ():
        kind = re.sub(
            "([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", str(layer.get("class_name")))
        ).lower()
        number = sum(1 for name in found if _split(name)[0] == kind)
        found[f"{kind}_{number}" if number else kind] = layer
    return found


def _layer_names(
    root: Any, path: Path, network: Network | None, stated: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The name of each numbered layer in the model: from the file, otherwise by the order of the network's layers."""
    said = {layer: root[layer]["vars"].attrs.get("name") for layer in root if "vars" in root[layer]}
    if any(said.values()):
        return {layer: str(name) for layer, name in said.items() if name}
    if stated:
        return {group: str(layer.get("config", {}).get("name")) for group, layer in stated.items()}
    found: dict[str, list[str]] = defaultdict(list)
    for layer in sorted(root, key=lambda layer: _split(layer)[1]):
        found[_split(layer)[0]].append(layer)
    if not found["depthwise_conv2d"]:  # the model around the network
        return {}
    candidates = [network] if network is not None else list(arch.networks().values())
    problems = []
    for candidate in candidates:
        expected = _expected_layers(candidate)
        problem = next(
            (
                f"it has {len(found[kind])} layers of type {kind} and the network has {len(names)}"
                for kind, names in expected.items()
                if len(found[kind]) != len(names) and (found[kind] or kind != "dense")
            ),
            None,
        )
        if expected and problem is None:
            return {
                layer: name for kind, names in expected.items() for layer, name in zip(found[kind], names, strict=False)
            }
        problems.append(problem)
    if network is None:
        raise CompoundNetError(
            f"{path} holds layers without names, and as many as no network of the catalogue in the layout keras has"
            f" ({len(found['conv2d'])} of type conv2d); give --network"
        )
    raise CompoundNetError(
        f"{path} does not hold {network.name} in the layout keras: {problems[0]}; give the network it is of"
    )


def _expected_layers(network: Network) -> dict[str, list[str]]:
    """The names of a network's layers by type, in order; {} if Keras has no such network."""
    ordered = defaultdict(list)
    try:
        for module in LAYOUT.modules(network.replace(num_classes=network.num_classes or 1)):
            ordered[_TYPE_OF[module.kind]].append(module.theirs)
    except CompoundNetError:
        return {}
    return ordered


def _split(layer: str) -> tuple[str, int]:
    """`conv2d_3` is the type conv2d and the number 3; the first of a type has none."""
    found = re.fullmatch(r"(.*?)(?:_(\d+))?", layer)
    assert found is not None
    return found[1], int(found[2] or 0)


def _datasets(root: Any) -> list[tuple[str, Any]]:
    """Every dataset in a group, by path. Links to other files are not followed."""
    found: list[tuple[str, Any]] = []
    root.visititems(lambda name, item: found.append((name, item)) if hasattr(item, "shape") else None)
    return found


class _Reader:
    """Reads the datasets of a file, in all not much more than the file can hold: HDF5 stores no values of a dataset
    that nothing was written to, and both it and zip files may be compressed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limit = max(limits.METADATA_BYTES, limits.UNPACKED * path.stat().st_size)
        self._read = 0
        self._groups = set[Any]()

    def enter(self, group: Any) -> None:
        """Raise a CompoundNetError for a group that is in several places: a small file can hold it in millions."""
        if group in self._groups:
            raise CompoundNetError(f"{self._path}: {group.name} is in several places of the file; it was not read")
        self._groups.add(group)

    def array(self, dataset: Any) -> _Array:
        """A dataset's content, if it is really in this file."""
        if dataset.external or dataset.is_virtual:
            raise CompoundNetError(f"{self._path}: {dataset.name} does not lie in the file itself; it was not read")
        if dataset.dtype.kind not in "fiu":
            raise CompoundNetError(
                f"{self._path}: {dataset.name} holds {dataset.dtype} instead of floating-point numbers"
            )
        chunk = 0 if dataset.chunks is None else math.prod(dataset.chunks) * dataset.dtype.itemsize
        self._read += max(dataset.nbytes, chunk)
        if self._read > self._limit:
            raise CompoundNetError(
                f"{self._path}: its weights unpack to more than {format_bytes(self._limit)}, which is far more than the"
                f" file holds; {dataset.name} was not read. Save the model again with Keras"
            )
        self._check_filters(dataset, chunk)
        return np.asarray(dataset)

    def _check_filters(self, dataset: Any, chunk: int) -> None:
        """Raise a CompoundNetError if a compressed dataset unpacks to more bytes than each of its chunks has: HDF5
        unpacks all that is stored of a chunk, up to a thousand times as much."""
        how = dataset.id.get_create_plist()
        filters = [how.get_filter(number)[0] for number in range(how.get_nfilters())]
        if set(filters) - _FILTERS or filters.count(_DEFLATE) > 1:
            raise CompoundNetError(
                f"{self._path}: {dataset.name} is compressed in another way than gzip; it was not read. Write the file"
                " again without compression: h5repack -f NONE FILE NEW"
            )
        for place in dataset.iter_chunks() if _DEFLATE in filters else ():
            _, stored = dataset.id.read_direct_chunk(tuple(part.start for part in place))
            if len(zlib.decompressobj().decompress(stored, chunk + 1)) > chunk:
                raise CompoundNetError(
                    f"{self._path}: {dataset.name} unpacks to more than its own size; it was not read. The file is"
                    " damaged: get it again"
                )
