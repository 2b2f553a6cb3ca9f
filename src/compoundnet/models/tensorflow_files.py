"""Checkpoints of the authors' code (tensorflow/tpu, models/official/efficientnet). Nothing else needs TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, first_line, scratch_folder
from compoundnet.models.layouts.tensorflow import LAYOUT
from compoundnet.models.layouts.translation import to_layout

if TYPE_CHECKING:
    from torch import Tensor

AVERAGE = "/ExponentialMovingAverage"
# Beside these a checkpoint of a training run holds the optimiser's slots and the step.
_WEIGHTS = ("kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
_EVERY_NETWORK_HAS = "stem/conv2d/kernel"
_PART = re.compile(r"\.(index|data-\d+-of-\d+)$")


def read_tensorflow(path: Path, *, raw: bool = False) -> dict[str, Tensor]:
    """Read a checkpoint's weights, in the layout `tensorflow`.

    Args:
        path: What its files' names have before `.index` and `.data-...`, one of these files, or a folder with the text
            file `checkpoint`, which names the latest.
        raw: The trained weights instead of their moving average. The published accuracy is the average's; without it
            B4 is right on 79.7 % instead of 82.6 % of ImageNet (qubvel/efficientnet#19).

    Raises:
        CompoundNetError: TensorFlow is not installed, or the checkpoint is damaged or of another kind of model.
    """
    import torch

    return {name: torch.from_numpy(array) for name, array in read_checkpoint(path, raw=raw).items()}


def read_checkpoint(path: Path, *, raw: bool = False) -> dict[str, Any]:
    """`read_tensorflow` with numpy arrays, float32; does not import torch."""
    prefix = _prefix(path)
    tf = import_tensorflow("reading")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        chosen = choose(reader.get_variable_to_shape_map(), raw=raw, source=str(prefix))
        return {name: reader.get_tensor(stored).astype("float32") for name, stored in chosen.items()}
    except CompoundNetError:
        raise
    except (tf.errors.OpError, LookupError, ValueError, RuntimeError, TypeError) as error:
        raise CompoundNetError(f"{prefix} is truncated or damaged: {first_line(error)}; get its files again") from error


def choose(names: Iterable[str], *, raw: bool, source: str) -> dict[str, str]:
    """Of a checkpoint's variables those that are the network, under their names in the layout.

    The moving averages where there are any, unless `raw`. The whole model's scope (`efficientnet-b0/`) is left out.
    """
    names = list(names)
    scope = _scope(names, source)
    averaged = f"{scope}{_EVERY_NETWORK_HAS}{AVERAGE}" in names
    if raw and f"{scope}{_EVERY_NETWORK_HAS}" not in names:
        raise CompoundNetError(f"{source} holds moving averages only (as the authors' L2 does); leave out raw")
    ending = AVERAGE if averaged and not raw else ""
    weight = re.compile(rf"{re.escape(scope)}(.+/(?:{'|'.join(_WEIGHTS)})){ending}")
    found = {name: weight.fullmatch(name) for name in sorted(names)}
    return {match[1]: name for name, match in found.items() if match}


def import_tensorflow(purpose: str) -> Any:
    """The module tensorflow, or a CompoundNetError that says how to get it."""
    try:
        import tensorflow
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
    """The one that the text file `checkpoint` names; only its name counts, as the folder may have been moved."""
    try:
        text = (folder / "checkpoint").read_text("utf-8", errors="replace")
    except OSError as error:
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

    Every tensor stands there under its own name and as its moving average, as their evaluation looks for the latter.
    `scope` is their name of the model, the network's unless given. Raises CompoundNetError without TensorFlow.
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
