"""Checkpoints that the authors' code restores: tensorflow/tpu, models/official/efficientnet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compoundnet.arch import Network
from compoundnet.base import scratch_folder
from compoundnet.models.layouts.convert import to_layout
from compoundnet.models.layouts.tensorflow import LAYOUT
from compoundnet.models.reading_tensorflow import AVERAGE, import_tensorflow

if TYPE_CHECKING:
    from torch import Tensor


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
