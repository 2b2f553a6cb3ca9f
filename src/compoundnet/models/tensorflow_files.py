"""Checkpoints of the authors' code (tensorflow/tpu, models/official/efficientnet). Only this module needs
TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, first_line, limits, read_file, scratch_folder
from compoundnet.models.layouts.tensorflow import LAYOUT
from compoundnet.models.layouts.translation import to_layout

if TYPE_CHECKING:
    from torch import Tensor

AVERAGE = "/ExponentialMovingAverage"
# Besides these, a checkpoint of a training run holds the slots of the optimiser and the step.
_WEIGHTS = ("kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
_EVERY_NETWORK_HAS = "stem/conv2d/kernel"
_PART = re.compile(r"\.(index|data-\d+-of-\d+)$")


def read_tensorflow(path: Path, *, raw: bool = False) -> tuple[dict[str, Tensor], bool]:
    """Read the weights of a checkpoint, in the layout `tensorflow`; return also whether they are moving averages.

    Args:
        path: The common prefix of its files `.index` and `.data-...`, one of these files, or a folder with the text
            file `checkpoint`, which names the latest.
        raw: Whether to read the trained weights instead of their moving average. The published accuracy is that of the
            average; without it B4 reaches 79.7 % instead of 82.6 % on ImageNet (qubvel/efficientnet#19).

    Raises:
        CompoundNetError: TensorFlow is not installed, or the checkpoint is damaged or of another kind of model.
    """
    import torch  # noqa: PLC0415  reading arrays does without it

    arrays, averaged = read_checkpoint(path, raw=raw)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, averaged


def read_checkpoint(path: Path, *, raw: bool = False) -> tuple[dict[str, Any], bool]:
    """`read_tensorflow` with numpy arrays, float32; does not import torch."""
    prefix = _prefix(path)
    tf = import_tensorflow("reading")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        chosen = choose(reader.get_variable_to_shape_map(), raw=raw, source=str(prefix))
        arrays = {name: reader.get_tensor(stored).astype("float32") for name, stored in chosen.items()}
        return arrays, any(stored.endswith(AVERAGE) for stored in chosen.values())
    except CompoundNetError:
        raise
    except (tf.errors.OpError, LookupError, ValueError, RuntimeError, TypeError) as error:
        raise CompoundNetError(f"{prefix} is truncated or damaged: {first_line(error)}; get its files again") from error


def choose(names: Iterable[str], *, raw: bool, source: str) -> dict[str, str]:
    """Select the variables of a checkpoint that belong to the network, with their names in the layout.

    Moving averages are preferred unless `raw`. The scope of the whole model (`efficientnet-b0/`) is removed.
    """
    names = list(names)
    scope = _scope(names, source)
    averaged = f"{scope}{_EVERY_NETWORK_HAS}{AVERAGE}" in names
    if raw and f"{scope}{_EVERY_NETWORK_HAS}" not in names:
        raise CompoundNetError(f"{source} holds moving averages only (as the authors' L2 does); leave out raw")
    if raw and not averaged:
        raise CompoundNetError(f"{source} holds no moving averages; leave out raw")
    ending = AVERAGE if averaged and not raw else ""
    weight = re.compile(rf"{re.escape(scope)}(.+/(?:{'|'.join(_WEIGHTS)})){ending}")
    found = {name: weight.fullmatch(name) for name in sorted(names)}
    return {match[1]: name for name, match in found.items() if match}


def import_tensorflow(purpose: str) -> Any:
    """Import tensorflow, or raise a CompoundNetError that says how to install it."""
    try:
        import tensorflow  # noqa: PLC0415  not a dependency, and takes seconds to import
    except ModuleNotFoundError as error:
        raise CompoundNetError(f"{purpose} TensorFlow checkpoints needs TensorFlow; pip install tensorflow") from error
    return tensorflow


def _scope(names: list[str], source: str) -> str:
    scopes = {
        name.removesuffix(AVERAGE).removesuffix(_EVERY_NETWORK_HAS)
        for name in names
        if re.fullmatch(rf"(.+/)?{_EVERY_NETWORK_HAS}({AVERAGE})?", name)
    }
    if len(scopes) != 1:
        held = f"it holds {', '.join(sorted(names)[:3])} and so on" if names else "it is empty"
        raise CompoundNetError(
            f"{source} is not a checkpoint of one EfficientNet: {len(scopes)} of its variables are named "
            f"{_EVERY_NETWORK_HAS}; {held}"
        )
    return scopes.pop()


def _prefix(path: Path) -> Path:
    prefix = _latest(path) if path.is_dir() else path.with_name(_PART.sub("", path.name))
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise CompoundNetError(
            f"{path}: there is no checkpoint; give what its files' names have before .index and .data-00000-of-00001"
        )
    return prefix


def _latest(folder: Path) -> Path:
    """The checkpoint named in the text file `checkpoint`; its folder is ignored, as it may have been moved."""
    try:
        text = read_file(folder / "checkpoint", limits.TOML_BYTES).decode(errors="replace")
    except CompoundNetError as error:
        raise CompoundNetError(
            f"{folder} is a folder without a readable file named checkpoint; give the checkpoint itself"
        ) from error
    found = re.search(r'^model_checkpoint_path: "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise CompoundNetError(
            f"{folder / 'checkpoint'} does not say model_checkpoint_path; give the checkpoint itself"
        )
    return folder / Path(found[1]).name


def write_tensorflow(path: Path, network: Network, state: Mapping[str, Tensor], scope: str | None = None) -> None:
    """Write the state of `build(network)` as a checkpoint: the files `path`.index and `path`.data-00000-of-00001.

    Every tensor is stored under its name and as its moving average, which the authors' evaluation reads. `scope` is the
    authors' name of the model, by default that of the network. Raises CompoundNetError if TensorFlow is not installed.
    """
    tf = import_tensorflow("writing")
    scope = network.name if scope is None else scope
    theirs = to_layout(state, network, LAYOUT)
    arrays = {f"{scope}/{name}": tensor.numpy(force=True) for name, tensor in theirs.items()}
    arrays |= {f"{name}{AVERAGE}": array for name, array in arrays.items()}
    with scratch_folder(path) as scratch:
        with tf.device("/CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=f"{scratch}/{path.name}",
                tensor_names=list(arrays),
                shape_and_slices=[""] * len(arrays),
                tensors=[tf.constant(array) for array in arrays.values()],
            )
        # The index last: without it there is no checkpoint.
        for written in sorted(scratch.iterdir(), key=lambda file: file.suffix == ".index"):
            written.replace(path.parent / written.name)
