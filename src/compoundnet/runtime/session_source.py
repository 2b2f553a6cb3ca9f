"""The source of a session: a model, a torch module, or an exported file, in the form that backends need."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import Network
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import installed_version
from compoundnet.models import ExportedModel, Model, ModelFolder, Postprocess, Preprocess, open_model
from compoundnet.models.exported import open_exported
from compoundnet.models.tuning import Tuning, int8_file, read_tuning
from compoundnet.models.weights_files import check_sha256, sha256_of

if TYPE_CHECKING:
    from torch import nn

# Images float32[N, C, H, W] to logits float32[N, classes].
Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Module = TypeVar("Module", bound="nn.Module")


@dataclass(frozen=True)
class SessionSource:
    """The properties of a network that backends need.

    Attributes:
        name: The name used in messages.
        channels: Channels of the input.
        size: Side in pixels of the square input for which it is compiled; None for an exported file that accepts any.
        network: The network; None for a torch module of another package.
        identity: Everything that its results depend on; None if that is unknown, and then compiled graphs are not kept.
        module: Returns the torch module in eval mode, with folded batch norms; None for an exported file.
        exported: The exported file; None for a module.
        quantised: Returns the int8 form of the network, or raises a CompoundNetError that says how to make one; None
            for an exported file.
        postprocess: What the logits mean; None if that is unknown, and then an image has one class.
        preprocess: How an image becomes its input; None if that is unknown.
        tuning: The record of `compoundnet models tune`; None if there is none.
    """

    name: str
    channels: int
    size: int | None
    network: Network | None
    identity: Mapping[str, str] | None
    module: Callable[[], nn.Module] | None = None
    exported: ExportedModel | None = None
    quantised: Callable[[], SessionSource] | None = None
    postprocess: Postprocess | None = None
    preprocess: Preprocess | None = None
    tuning: Tuning | None = None

    @property
    def precision(self) -> str:
        """The number type of its weights and arithmetic before a backend converts them."""
        return "float32" if self.exported is None else self.exported.precision

    def in_precision(self, precision: str) -> SessionSource:
        """Return the source that a session in this precision opens: itself, or its int8 form.

        Raises:
            CompoundNetError: It has no such form.
        """
        if precision == self.precision:
            return self
        if self.exported is not None:
            if self.precision != "float32" or precision == "int8":
                # bfloat16 is no precision of files: backends convert one in float32.
                exported = "float32" if precision == "bfloat16" else precision
                raise CompoundNetError(
                    f"{self.exported.file} holds {self.precision} and does not run in {precision}: export the model"
                    f" with --precision {exported}, or run the model itself"
                )
            return self
        if precision != "int8":
            return self
        if self.quantised is None:
            raise CompoundNetError(
                f"{self.name} has no int8 form: `compoundnet export MODEL -o FILE.onnx --precision int8 --calibrate"
                " IMAGES` writes one, which is a model too"
            )
        return self.quantised()

    @property
    def input_size(self) -> int:
        """Side of the images for trial runs, in pixels."""
        if self.size is not None:
            return self.size
        assert self.exported is not None
        return self.exported.preprocess.size

    def identified(self, *packages: str) -> dict[str, str] | None:
        """Return the identity of a graph compiled from it by the installed versions of these packages."""
        if self.identity is None:
            return None
        return {**self.identity, **{package: installed_version(package) or "" for package in packages}}

    def probe(self, batch: int = 1) -> NDArray[np.float32]:
        """Return normal noise float32[batch, channels, size, size], the same each time, for trial runs."""
        shape = (batch, self.channels, self.input_size, self.input_size)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@contextmanager
def blaming(exported: ExportedModel | None, backend: str) -> Iterator[None]:
    """Report what a backend raises in the block as an error of the exported file, whose graph may be anything."""
    try:
        yield
    except (CompoundNetError, OSError, MemoryError):
        raise
    except Exception as error:  # each backend raises classes of its own
        if exported is None:
            raise
        raise CompoundNetError(f"{exported.file}: {backend} cannot run it: {first_line(error)}") from error


def find_source(
    model: str | os.PathLike[str] | Model | nn.Module, size: int | None = None, *, tuned: bool = True
) -> SessionSource:
    """Return the source of a session for any kind of model.

    Args:
        model: A model (name, folder, exported file, or opened), or a torch module.
        size: Side of the images in pixels; by default that of the model.
        tuned: Whether to read what `models tune` has measured of a model folder.

    Raises:
        CompoundNetError: There is no such model, `size` does not fit it, or what was measured is of other weights.
    """
    if size is not None and size < MIN_RESOLUTION:
        raise CompoundNetError(f"size must be at least {MIN_RESOLUTION} px, got {size}")
    if not isinstance(model, str | os.PathLike | Model):
        return _of_module(model, size)
    found = open_model(model)
    if isinstance(found, ExportedModel):
        return _of_exported(found, size)
    assert isinstance(found, ModelFolder)
    return _of_folder(found, size, tuned=tuned)


def _of_folder(model: ModelFolder, size: int | None, *, tuned: bool = True) -> SessionSource:
    def module() -> nn.Module:
        from compoundnet.models import load  # noqa: PLC0415  imports torch, which an exported file does not need

        return load(model).fuse()

    size = size or model.preprocess.size
    weights = sha256_of(model.weights)
    return SessionSource(
        model.name,
        model.network.in_channels,
        size,
        model.network,
        {"weights": weights, "network": model.network.dumps(), "size": str(size)},
        module=module,
        quantised=lambda: _quantised(model, weights, size),
        postprocess=model.postprocess,
        preprocess=model.preprocess,
        tuning=read_tuning(model, weights) if tuned else None,
    )


def _quantised(model: ModelFolder, weights: str, size: int) -> SessionSource:
    """The int8 form of a model folder that was tuned."""
    file, tuning = int8_file(model), read_tuning(model, weights)
    if tuning is None or not tuning.int8:
        raise CompoundNetError(f"{file} is not of this model, as far as is known: `compoundnet models tune` makes it")
    check_sha256(file, tuning.int8, "`compoundnet models tune` makes it anew")
    return _of_exported(open_exported(file), size)


def _of_exported(model: ExportedModel, size: int | None) -> SessionSource:
    own = model.preprocess.size
    if size not in (None, own) and not model.dynamic_size:
        raise CompoundNetError(
            f"{model.file} takes {own} px images only, not {size} px; `compoundnet export --dynamic-size` makes one"
            " that takes any"
        )
    identity = {"file": sha256_of(model.file)}
    if model.file.suffix.lower() == ".xml":
        identity["weights"] = sha256_of(model.file.with_suffix(".bin"))
    return SessionSource(
        model.name,
        model.network.in_channels,
        None if model.dynamic_size else own,
        model.network,
        identity,
        exported=model,
        postprocess=model.postprocess,
        preprocess=model.preprocess,
    )


def _of_module(module: nn.Module, size: int | None) -> SessionSource:
    from compoundnet.nn import ConvNet  # noqa: PLC0415  as above

    _check_logits(module)
    if isinstance(module, ConvNet):
        net = for_inference(module)
        size = size or net.spec.resolution
        known = {"weights": _digest(net), "network": net.spec.dumps(), "size": str(size)}
        identity = known if all(map(_is_plain, net.modules())) else None
        return SessionSource(net.spec.name, net.spec.in_channels, size, net.spec, identity, module=net.fuse)
    if size is None:
        raise CompoundNetError(
            f"a {type(module).__name__} does not say which image size it is for; give size= in pixels"
        )
    return SessionSource(type(module).__name__, 3, size, None, None, module=lambda: _inference_copy(module))


def _is_plain(part: nn.Module) -> bool:
    """Whether its name and numbers say what a module computes: hooks and classes of a user may compute anything."""
    library = type(part).__module__.startswith(("torch.nn.", "compoundnet.nn."))
    return library and not (part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def for_inference(module: Module) -> Module:
    """Return the module in eval mode, in float32 and on the CPU; a copy unless it already is."""
    import torch  # noqa: PLC0415  as above

    _check_logits(module)
    ready = not module.training and all(
        tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.int64)
        for tensor in module.state_dict().values()
    )
    return module if ready else _inference_copy(module)


def _inference_copy(module: Module) -> Module:
    import torch  # noqa: PLC0415  as above

    return copy.deepcopy(module).eval().to("cpu", torch.float32)


def _check_logits(module: nn.Module) -> None:
    from compoundnet.nn import FeaturePyramid  # noqa: PLC0415  as above

    if isinstance(module, FeaturePyramid):
        raise CompoundNetError(f"{module.spec.name} with features_only gives feature maps; a session gives logits")


def _digest(module: nn.Module) -> str:
    import torch  # noqa: PLC0415  as above

    digest = hashlib.sha256(str(module).encode())  # the layers, some of which a user may have replaced
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
