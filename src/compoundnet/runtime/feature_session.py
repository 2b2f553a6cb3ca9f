"""Sessions that return the last feature map besides the logits, as class activation maps need it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.machine import check_threads, torch_threads
from compoundnet.models import ExportedModel, Model, ModelFolder, open_folder, open_model
from compoundnet.runtime.backends.session import forked
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import blaming, find_source, for_inference

if TYPE_CHECKING:
    from compoundnet.nn import ConvNet

FEATURE_BACKENDS = ("onnxruntime", "torch")
_MODEL = "features.onnx"
Array: TypeAlias = NDArray[np.float32]


class Features(NamedTuple):
    """Logits float32[classes] of one image, and the feature map float32[channels, h, w] that they come from."""

    logits: Array
    maps: Array


class FeatureSession(NamedTuple):
    """A network whose classifier is a linear layer over the mean of its last feature map, ready to run.

    Attributes:
        run: Runs one image, float32[3, size, size], as returned by preprocessing.
        weight: The weight of the classifier, float32[classes, channels].
    """

    run: Callable[[Array], Features]
    weight: Array


def feature_session(
    model: str | os.PathLike[str] | Model | ConvNet,
    *,
    backend: str | None = None,
    threads: int | None = None,
) -> FeatureSession:
    """Open a session of a model or of a network in memory.

    The first session of a model on onnxruntime exports it, which needs torch and some seconds; the graph is kept in
    the cache, and later sessions start without torch.

    Args:
        model: A name of `compoundnet models list`, a model folder, an ONNX file, an opened model, or a ConvNet.
        backend: onnxruntime or torch; by default onnxruntime, or torch for a network in memory.
        threads: Threads of the network; all cores by default.

    Raises:
        CompoundNetError: There is no such model or backend, or an exported file does not output the feature map.
    """
    threads = check_threads(threads)
    if isinstance(model, str | os.PathLike):
        model = open_model(model)
    in_memory = not isinstance(model, Model)
    backend = backend or ("torch" if in_memory else "onnxruntime")
    if backend not in FEATURE_BACKENDS:
        close = did_you_mean(backend, FEATURE_BACKENDS)
        raise CompoundNetError(f"feature maps come from onnxruntime or torch, not from a backend {backend!r}{close}")
    if isinstance(model, ExportedModel):
        return _of_exported(model, backend, threads)
    network = open_folder(model) if isinstance(model, Model) else model
    if backend == "torch" or not isinstance(network, ModelFolder):
        return _of_torch(network, backend, threads)
    return _of_folder(network, threads)


def _of_folder(model: ModelFolder, threads: int) -> FeatureSession:
    """A session on ONNX Runtime, with a graph from the cache."""
    from safetensors import safe_open  # noqa: PLC0415  an exported file does not need it

    source = find_source(model)
    identity = source.identified("compoundnet", "onnx", "torch")
    with stored("features", model.name, identity, partial(_write, model), "exporting with its feature map") as folder:
        run = _onnx(folder / _MODEL, threads)
    with safe_open(model.weights, framework="numpy") as tensors:
        return FeatureSession(run, tensors.get_tensor("classifier.weight"))


def _write(model: ModelFolder, folder: Path) -> None:
    from compoundnet.models import load  # noqa: PLC0415  imports torch, which an exported file does not need
    from compoundnet.runtime.onnx_graph import write_onnx  # noqa: PLC0415

    size, channels = model.preprocess.size, model.network.in_channels
    write_onnx(load(model).fuse(), folder / _MODEL, channels=channels, size=size, features=True, one_file=False)


def _of_exported(model: ExportedModel, backend: str, threads: int) -> FeatureSession:
    if backend != "onnxruntime":
        raise CompoundNetError(f"feature maps of an exported file come from onnxruntime, not from {backend}")
    if not model.features:
        raise CompoundNetError(
            f"{model.file} did not keep the feature map, which class activation maps are made of;"
            " `compoundnet export --with-cam` writes an ONNX file that does"
        )
    import onnx  # noqa: PLC0415  takes 0.1 s to import, and only an exported file needs it

    with blaming(model, backend):
        graph = onnx.load(model.file).graph
        # The classifier is the only fully connected layer: squeeze-excitation's are convolutions.
        (classifier,) = (node for node in graph.node if node.op_type == "Gemm")
        (weight,) = (tensor for tensor in graph.initializer if tensor.name == classifier.input[1])
        opened = _onnx(model.file, threads)

    def run(image: Array) -> Features:
        with blaming(model, backend):
            return opened(image)

    return FeatureSession(run, onnx.numpy_helper.to_array(weight).astype(np.float32))


def _onnx(file: Path, threads: int) -> Callable[[Array], Features]:
    from compoundnet.runtime.backends.onnxruntime import raw_session  # noqa: PLC0415  imports ONNX Runtime

    session = raw_session(file, optimise=True, threads=threads)
    given = session.get_inputs()[0].name

    def run(image: Array) -> Features:
        logits, maps = session.run(["logits", "features"], {given: image[None]})
        return Features(logits[0], maps[0])

    return run


def _of_torch(model: ModelFolder | ConvNet, backend: str, threads: int) -> FeatureSession:
    import torch  # noqa: PLC0415  an exported file does not need it

    from compoundnet.models import load  # noqa: PLC0415

    if backend != "torch":
        raise CompoundNetError(f"a network in memory gives its feature maps on torch, not on {backend}")
    net = (load(model) if isinstance(model, ModelFolder) else for_inference(model)).fuse()
    process = os.getpid()

    def run(image: Array) -> Features:
        if process != os.getpid():
            raise forked(net.spec.name, backend)
        with torch_threads(threads), torch.inference_mode():
            maps = net.forward_features(torch.from_numpy(image)[None])
            return Features(net.forward_head(maps)[0].numpy(), maps[0].numpy())

    return FeatureSession(run, net.get_parameter("classifier.weight").detach().numpy())
