"""What a training program's checkpoint holds: the weights among its entries, averaged or not, under their plain names.

Programs differ in the entry that holds the weights (`state_dict`, `model`), in that of their moving average
(`state_dict_ema`, `model_ema`), and in the prefix that wrappers put before every name (`module.`, `_orig_mod.`,
`model.`). Each choice made here is said in a note.
"""

from __future__ import annotations

import bisect
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from compoundnet.base import CompoundNetError, check_file, instead_of_file, limits, shortened
from compoundnet.models.checkpoint_entries import unnested, weights_in
from compoundnet.models.hub_folders import shards
from compoundnet.models.labels import stated_labels
from compoundnet.models.layouts import LAYOUTS, bodies, stem_names
from compoundnet.models.tensors import COUNTER
from compoundnet.models.torch_files import PICKLE, ZIP, Record, array_of, read_torch
from compoundnet.models.weights_files import damaged, read_safetensors, unreadable
from compoundnet.models.zip_files import ZIP_ERRORS, check_unpacked

# Wrappers of the network, removed even where no layout is recognised: DistributedDataParallel, torch.compile.
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.")
_IS_AVERAGE = re.compile(r"(^|[._])(ema|swa|averaged?|average_model|teacher)([._]|$)")
_COUNTERS = {"n_averaged", "num_updates", "decay", "initted", "step"}
_LEAST_SHARE = 0.2  # of the tensors in a state that the network must have
_START = 64  # bytes that tell what a file is
_NAMED = 5  # how many tensors a note names
_MODEL_NAMES = ("arch", "architecture", "model", "model_name", "backbone", "encoder_name", "network", "net")
# Where the names of the classes are: torchvision's ImageFolder calls them class_to_idx and classes.
_LABELS = (
    "class_to_idx", "idx_to_class", "id2label", "idx2label", "classes", "class_names", "label_names", "labels",
)  # fmt: skip
_SETTINGS = ("args", "hyper_parameters", "hparams", "config", "cfg", "opt")


class Checkpoint(msgspec.Struct, frozen=True):
    """The weights of a checkpoint.

    Attributes:
        state: The tensors by name, without the prefix.
        averaged: Whether they are a moving average over the steps of training.
        prefix: What was before each name; "" if there was nothing.
        others: The tensors that are not below the prefix, under their whole names.
        settings: Values that the training program stored: its arguments, and the name of the model.
        labels: The class names by index, if it stored them.
        notes: A sentence for each choice that was made.
    """

    state: dict[str, Tensor]
    averaged: bool = False
    prefix: str = ""
    others: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the weights of a safetensors or torch file, as `read_checkpoint` does, without what it says about them."""
    return read_checkpoint(path).state


def read_checkpoint(path: Path, *, raw: bool = False) -> Checkpoint:
    """Read the weights of a safetensors or torch file (zip or legacy), told apart by content.

    Args:
        path: The file.
        raw: Whether to take the trained weights where the checkpoint holds their moving average too.

    Raises:
        CompoundNetError: The file is damaged, is a pickle that would run code, holds no weights, holds several sets of
            them, or has no averaged weights to leave (`raw`).
    """
    content = _read(path)
    if not isinstance(content, Mapping) or not content:
        raise CompoundNetError(_not_weights(path, content))
    around, content, unwrapping = unnested(content)
    found, averaged, averaged_here, notes = weights_in(content, path, raw)
    notes = [*unwrapping, *notes]
    state = _tensors(found, path)
    inside = without_prefix(state, raw=raw)
    if raw and not averaged_here and not inside.average_left:
        raise CompoundNetError(f"{path} holds no moving average beside its weights, so leave out raw")
    if inside.note:
        notes.append(inside.note)
    if inside.prefix:
        notes.append(f"removed the prefix {inside.prefix} from the names of the tensors")
    if inside.body:
        notes.append(
            f"put {inside.body} before the names of the tensors, which are those of a model without classifier"
        )
    averaged = averaged or inside.averaged
    settings = _settings(content)
    for outer in reversed(around):
        settings |= _settings(outer)
    labels = _labels((*around, content), notes)
    return Checkpoint(inside.state, averaged, inside.prefix, inside.others, settings, labels, tuple(notes))


def check_values(state: Mapping[str, Tensor], source: str) -> None:
    """Raise a CompoundNetError that names a tensor which cannot be weights: without values, not finite, sparse,
    quantised, or not of real numbers."""
    for name, tensor in state.items():
        if tensor.is_meta:
            problem = "has no values (it is on torch's meta device)"
        elif tensor.layout is not torch.strided:
            problem = f"is sparse ({tensor.layout}); store it as a dense tensor"
        elif tensor.is_quantized:
            problem = f"is quantised ({tensor.dtype}); convert the weights of the float model"
        elif not tensor.is_floating_point() and not name.endswith(COUNTER):
            problem = f"holds {str(tensor.dtype).removeprefix('torch.')} instead of floating-point numbers"
        elif tensor.is_floating_point() and not (finite := tensor.float().isfinite()).all():
            bad = int((~finite).sum())
            problem = (
                f"is not finite: {bad:,} of its {tensor.numel():,} values are NaN or infinite, as after a training run"
                " that diverged; take an earlier checkpoint"
            )
        else:
            continue
        raise CompoundNetError(f"{source}: the tensor {name} {problem}")


class _Inside(NamedTuple):
    state: dict[str, Tensor]
    prefix: str
    others: dict[str, Tensor]
    averaged: bool
    average_left: bool
    note: str
    body: str


def without_prefix(state: Mapping[str, Tensor], *, raw: bool = False) -> _Inside:
    """Find the network inside a state: the prefix before the name of a stem that some layout knows.

    Where a network and its moving average are inside, the average is preferred unless `raw`.
    """
    found = _prefixes(state)
    averages = [prefix for prefix in found if _IS_AVERAGE.search(prefix)]
    trained = [prefix for prefix in found if prefix not in averages]
    choice = (trained or averages) if raw else (averages or trained)
    prefix = choice[0] if choice else _wrapper(state)
    averaged = "n_averaged" in state or prefix in averages
    note = ""
    if len(found) > 1:
        what = "the averaged weights" if prefix in averages else "the weights"
        others = ", ".join(one or "no prefix" for one in found if one != prefix)
        how = "; --raw takes those" if prefix in averages and trained else ""
        note = f"took {what} below {prefix or 'no prefix'}, not those below {others}{how}"
    said = tuple(one for one in found if one != prefix and one)
    own = {name: tensor for name, tensor in state.items() if name not in _COUNTERS and not name.startswith(said)}
    kept = {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
    others_left = {name: tensor for name, tensor in own.items() if name not in kept}
    body = next((body for stem, body in bodies().items() if prefix + stem in kept), "")
    plain = {body + name.removeprefix(prefix): tensor for name, tensor in kept.items()}
    return _Inside(plain, prefix, others_left, averaged, raw and bool(averages) and prefix in trained, note, body)


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """The prefixes before a stem, those of the most tensors only: ResNet's blocks begin like ResNet itself."""
    stems = {stem for name in LAYOUTS for stem in stem_names(name)} | bodies().keys()
    candidates = {
        name.removesuffix(stem)
        for name, tensor in state.items()
        if tensor.ndim == 4
        for stem in stems
        if name == stem or name.endswith(f".{stem}")
    }
    names = sorted(state)  # a file decides how many names and candidates there are, so not all pairs are compared
    covered = {prefix: _count_below(names, prefix) for prefix in candidates}
    most = max(covered.values(), default=0)
    if most < _LEAST_SHARE * len(state):  # a block of another network
        return []
    outer: list[str] = []
    for one in sorted(candidates):  # what begins with a candidate follows it
        if not (outer and one.startswith(outer[-1])):
            outer.append(one)
    averages = {one for one in candidates if _IS_AVERAGE.search(one) and covered[one] > 0.4 * most}
    return sorted((one for one in outer if covered[one] > 0.8 * most or one in averages), key=len) + sorted(
        averages.difference(outer), key=len
    )


def _count_below(names: Sequence[str], prefix: str) -> int:
    """The number of names that begin with a prefix, of names in alphabetical order."""
    first = bisect.bisect_left(names, prefix)
    return bisect.bisect_right(names, prefix, first, key=lambda name: name[: len(prefix)]) - first


def _wrapper(state: Mapping[str, Tensor]) -> str:
    """The wrappers that stand before every name."""
    prefix = ""
    while True:
        more = next((one for one in _WRAPPERS if all(_under(name, prefix + one) for name in state)), None)
        if more is None:
            return prefix
        prefix += more


def _under(name: str, prefix: str) -> bool:
    return name.startswith(prefix) or name in _COUNTERS


def _read(path: Path) -> Any:
    index = _index_of(path)
    if index is not None:
        whole: dict[str, Any] = {}
        for shard in shards(index):
            whole |= _read_file(shard)
        return whole
    return _read_file(path)


def _index_of(path: Path) -> Path | None:
    """The index of a sharded file, given by itself or by one of its shards; None for any other file."""
    if path.name.endswith(".index.json"):
        return path
    shard = re.fullmatch(r"(.+)-\d{5}-of-\d{5}(\..+)", path.name)
    index = path.with_name(f"{shard[1]}{shard[2]}.index.json") if shard else None
    if shard and index is not None and not index.is_file():
        raise CompoundNetError(f"{path} is one of several shards; {index.name}, which lists them, is not beside it")
    return index


def _read_file(path: Path) -> Any:
    if path.exists() and not path.is_dir():
        check_file(path, limits.WEIGHTS_BYTES)
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise unreadable(path, error) from error
    if start.startswith(ZIP):
        _check_zip(path)
    if start.startswith((ZIP, PICKLE)):
        return read_torch(path)
    if start[8:9] == b"{":
        return read_safetensors(path)
    if start.startswith(b"\x89HDF"):
        raise CompoundNetError(f"{path} is an HDF5 file, as Keras writes them; the layout for it is keras")
    what = instead_of_file(start) or "is neither a safetensors nor a torch file, or it is damaged at its very start"
    raise CompoundNetError(f"{path} {what}")


def _check_zip(path: Path) -> None:
    """Name other zipped formats, of which torch says only that they are damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (*ZIP_ERRORS, ValueError) as error:  # torch might read it all the same, to any size
        raise damaged(path, error) from error
    check_unpacked(entries, path.stat().st_size, path)
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CompoundNetError(
            f"{path} is a TorchScript archive, which holds code; nothing of it was run. Save the weights alone there:"
            " torch.save(model.state_dict(), ...)"
        )
    if "model.weights.h5" in names:
        raise CompoundNetError(f"{path} is a .keras file; the layout for it is keras")
    if not any(name.endswith("data.pkl") for name in names):
        raise CompoundNetError(
            f"{path} is a zip file without weights of torch or Keras in it; it holds {shortened(names, _NAMED)}"
        )


def _tensors(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        array = array_of(value)
        if isinstance(value, Tensor):
            _check_extent(str(name), value, path)
            found[str(name)] = value
        elif array is not None:
            found[str(name)] = torch.from_numpy(array)
    for value in content.values():
        if isinstance(value, Record) and value.of.startswith(("torch.nn.", "timm.", "torchvision.")):
            raise CompoundNetError(_not_weights(path, value))
    others = [str(name) for name in content if str(name) not in found and str(name) not in _COUNTERS]
    others = [name for name in others if not name.endswith("_extra_state")]
    if others:
        raise CompoundNetError(
            f"{path} holds other things than tensors: {shortened(others, _NAMED)}; expected a state dict"
        )
    return found


def _check_extent(name: str, tensor: Tensor, path: Path) -> None:
    """Raise for a tensor of more values than the file holds: a stride of 0 repeats one value any number of times."""
    if tensor.layout is not torch.strided or tensor.is_meta:  # `check_values` reports it
        return
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > held:
        raise CompoundNetError(
            f"{path}: the tensor {name} has {tensor.numel():,} values, of which the file holds"
            f" {held // tensor.element_size():,}; save it with .contiguous()"
        )


def _settings(content: Mapping[Any, Any]) -> dict[str, Any]:
    """What the training program stored about itself, plain values only; names of models first come from the top."""
    found: dict[str, Any] = {}
    for name in _SETTINGS:
        found |= {key: value for key, value in _plain(content.get(name)) if key not in found}
    for name in _MODEL_NAMES:
        if isinstance(content.get(name), str):
            found[name] = content[name]
    return found


def _labels(contents: Sequence[Mapping[Any, Any]], notes: list[str]) -> tuple[str, ...] | None:
    """The class names in dictionaries of a checkpoint, or among the settings in them."""
    for content in contents:
        for held in (content, *(_entries(content.get(name)) for name in _SETTINGS)):
            for name in _LABELS:
                if (found := stated_labels(held.get(name), notes)) is not None:
                    notes.append(f"the class names are those of {name} in the checkpoint")
                    return found
    return None


def _entries(value: object) -> Mapping[Any, Any]:
    items = value.values if isinstance(value, Record) else value
    return items if isinstance(items, Mapping) else {}


def _plain(value: object) -> Iterator[tuple[str, Any]]:
    for key, item in _entries(value).items():
        if isinstance(item, str | int | float | list | tuple) and not isinstance(item, bool):
            yield str(key), item


def _not_weights(path: Path, content: object) -> str:
    if isinstance(content, Record):
        return (
            f"{path} holds a whole {content.of}, whose code is not run. Save the weights alone there:"
            " torch.save(model.state_dict(), ...)"
        )
    described = "an empty dictionary" if content == {} else f"a {type(content).__name__}"
    return f"{path} holds {described}, not a dictionary of tensors by name (a state dict)"
