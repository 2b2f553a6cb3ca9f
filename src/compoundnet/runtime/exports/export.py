"""Export of a model to a file for another runtime. The file is compared with torch before it gets its final name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet import data
from compoundnet.base import CompoundNetError, check_output_file, did_you_mean, followed, scratch_folder
from compoundnet.models import ExportedModel, Model, ModelFolder, Postprocess, Preprocess, load, open_folder
from compoundnet.models.checkpoints import check_values
from compoundnet.models.exported import is_exported
from compoundnet.models.labels import check_labels
from compoundnet.models.preprocess import default_preprocess
from compoundnet.nn import ConvNet
from compoundnet.runtime.backends.openvino import write_graph
from compoundnet.runtime.exports.comparison import Comparison, compare, generated_images, noise, read_images, runner
from compoundnet.runtime.exports.quantise import quantise
from compoundnet.runtime.exports.torch_archive import write_archive
from compoundnet.runtime.onnx_graph import write_onnx
from compoundnet.runtime.session_source import for_inference

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# Format -> the suffix of its file.
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
# Precision -> the largest difference from torch in float32, as a fraction of its largest logit. int8 computes a
# different function, so it is judged by how often the most probable class stays the same.
LIMITS = {"float32": 1e-4, "float16": 2e-2, "int8": None}
# The number of the given images that are compared if the precision is not judged on all of them.
_COMPARED = 16


class Export(msgspec.Struct, frozen=True):
    """An exported file, and the deviation of its logits from those of torch in float32.

    Attributes:
        file: The file.
        format: onnx, openvino or torch.
        precision: float32, float16 or int8.
        bytes: Size of the file, including the weights beside it.
        size: Side of the images, pixels.
        dynamic_batch: Whether it accepts any number of images at a time.
        dynamic_size: Whether it accepts images of any size.
        features: Whether it outputs the last feature map besides the logits.
        difference: The largest difference of a logit, as a fraction of torch's largest logit.
        limit: The largest allowed difference; None for int8.
        agreement: Fraction of the images with the same most probable class as in torch, or of a model of several labels
            an image with the same labels; None without images.
        multilabel: Whether the model predicts several labels an image.
        images: The number of images on which it was compared.
        generated: Whether the images were generated because none were given.
    """

    file: str
    format: str
    precision: str
    bytes: int
    size: int
    dynamic_batch: bool
    dynamic_size: bool
    features: bool
    difference: float
    limit: float | None
    agreement: float | None
    images: int
    generated: bool
    multilabel: bool = False


def export(
    model: str | os.PathLike[str] | Model | ConvNet,
    output: str | os.PathLike[str],
    *,
    format: str = "onnx",  # noqa: A002  # the option's name on the command line
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
    with_cam: bool = False,
    precision: str = "float32",
    calibrate: Paths | None = None,
    images: Paths | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    postprocess: Postprocess | None = None,
) -> Export:
    """Write a model (name, folder, opened) or a network in memory to one file, which `predict` accepts as a model.

    Args:
        model: A name of `compoundnet models list`, a model folder, an opened one, or a ConvNet.
        output: The file to write. Its suffix: .onnx, .xml (OpenVINO; weights go to a .bin beside it) or .pt2.
        format: onnx, openvino or torch.
        dynamic_batch: Accept any number of images at a time instead of one.
        dynamic_size: Accept any image size from 32 px instead of only that of the model.
        with_cam: Add an output `features`: the last feature map float32[N, C, h, w], which `explain` needs. Not for
            networks without class activation maps, such as MobileNetV4.
        precision: float32; float16 weights and arithmetic with float32 in and out; int8, which needs `calibrate`.
        calibrate: Images, or folders of them, for the calibration of int8: some hundreds, similar to those in use.
        images: The images for the comparison, besides noise; by default those of `calibrate`, or generated ones.
        preprocess: Replaces that of the model; for a ConvNet the authors' preprocessing by default.
        labels: Replace those of the model; for a ConvNet none by default.
        postprocess: Replaces that of the model; for a ConvNet one class an image, by softmax, by default.

    Returns:
        The file, and its deviation from torch.

    Raises:
        CompoundNetError: The number of labels is not that of the classes, or the file differs from torch by more than
            LIMITS allows. No file is written then, and an older file of that name stays.
    """
    target = _checked(Path(output), format, precision, calibrate)
    if with_cam and (format != "onnx" or precision == "int8"):
        raise CompoundNetError(
            f"with-cam is for the format onnx in float32 or float16, got {format} in {precision}: leave one of them out"
        )
    calibration = [] if calibrate is None else _find(calibrate)
    shown = calibration if images is None else _find(images)
    net, described = _described(model, target, precision, dynamic_batch, dynamic_size, preprocess, labels, postprocess)
    if with_cam and not described.network.has_linear_head:
        raise CompoundNetError(
            f"{described.name} has no class activation maps, since its logits are no sums over its last feature map"
            " (`explain` uses Grad-CAM for it, which needs the model folder): leave with-cam out"
        )
    described = msgspec.structs.replace(described, features=with_cam)
    how, channels = described.preprocess, described.network.in_channels
    if channels != 3 and (calibration or shown):
        raise CompoundNetError(f"{described.name} reads {channels} channels; images are for models that read 3 (RGB)")

    def calibration_images() -> Iterable[NDArray[np.float32]]:
        return read_images(calibration, how)

    def compared_on() -> Iterable[NDArray[np.float32]]:
        if channels != 3:
            return ()
        if not shown:
            return generated_images(how)
        return read_images(shown if precision == "int8" else shown[:_COMPARED], how)

    with scratch_folder(target) as scratch:
        file = scratch / target.name
        _WRITERS[format](net, described, file, calibration_images)
        noises = noise(channels, how.size, dynamic_batch=dynamic_batch, dynamic_size=dynamic_size)
        found = compare(net, runner(file), noises, compared_on(), described.postprocess)
        _check(found, precision, target)
        return _kept(file, target, described, format, found, generated=not shown and found.images > 0)


def _checked(target: Path, form: str, precision: str, calibrate: Paths | None) -> Path:
    for what, given, known in (("format", form, FORMATS), ("precision", precision, LIMITS)):
        if given not in known:
            raise CompoundNetError(f"there is no {what} {given!r}{did_you_mean(given, known)}")
    if target.suffix != FORMATS[form]:
        raise CompoundNetError(f"a file of format {form} must end in {FORMATS[form]}, got {target.name}")
    if precision == "int8" and form == "torch":
        raise CompoundNetError("int8 is for the formats onnx and openvino; torch's takes float32 or float16")
    if precision == "int8" and calibrate is None:
        raise CompoundNetError("int8 is calibrated on images: give --calibrate a folder of some hundred")
    if precision != "int8" and calibrate is not None:
        raise CompoundNetError(f"calibration is for --precision int8, not {precision}")
    check_output_file(target)
    return followed(target)


def _described(
    model: str | os.PathLike[str] | Model | ConvNet,
    target: Path,
    precision: str,
    dynamic_batch: bool,
    dynamic_size: bool,
    preprocess: Preprocess | None,
    labels: Sequence[str] | None,
    postprocess: Postprocess | None,
) -> tuple[ConvNet, ExportedModel]:
    """The network in eval mode, norms not folded, and the metadata of the file."""
    model = _opened(model)
    if isinstance(model, ModelFolder):
        name, network = model.name, model.network
        preprocess, labels = preprocess or model.preprocess, model.labels if labels is None else labels
        postprocess = postprocess or model.postprocess
    else:
        name, network = model.spec.name, model.spec
        preprocess = preprocess or default_preprocess(network)
    names = None if labels is None else tuple(labels)
    if names is not None:
        check_labels(names, network.num_classes, "the labels to write")
    net = load(model) if isinstance(model, ModelFolder) else for_inference(model)
    check_values(net.state_dict(), f"{name} as given")
    postprocess = postprocess or Postprocess()
    postprocess.check_classes(network.num_classes, "the thresholds to write")
    return net, ExportedModel(
        name, network, preprocess, names, postprocess, precision, dynamic_batch, dynamic_size, target
    )


def _opened(model: object) -> ModelFolder | ConvNet:
    exported = model.file if isinstance(model, ExportedModel) else model
    if isinstance(exported, str | os.PathLike) and is_exported(exported) and Path(exported).is_file():
        raise CompoundNetError(
            f"{os.fspath(exported)} is an exported file, which cannot be exported again; give what it was made of: a"
            " name of `compoundnet models list`, or a model folder"
        )
    if isinstance(model, str | os.PathLike | Model):
        return open_folder(model)
    if not isinstance(model, ConvNet):
        raise CompoundNetError(
            "export takes a model (name, folder, opened) or a network of compoundnet in memory, got"
            f" {type(model).__name__}; torch.onnx.export writes other modules"
        )
    return model


def _check(found: Comparison, precision: str, target: Path) -> None:
    limit = LIMITS[precision]
    if not np.isfinite(found.difference) and precision == "float16":
        raise CompoundNetError(
            f"{target.name} was not kept: its logits are not finite, because float16 holds numbers up to 65,504 only"
            " and this model computes larger ones; export it with --precision float32"
        )
    if not np.isfinite(found.difference) or (limit is not None and found.difference > limit):
        raise CompoundNetError(
            f"{target.name} was not kept: its logits differ from torch's by {found.difference:.2g} of the largest one,"
            f" and {limit or 'a finite number'} is allowed. Please report it, with the model and the versions"
        )


def _kept(
    file: Path, target: Path, described: ExportedModel, form: str, found: Comparison, *, generated: bool
) -> Export:
    parts = sorted(file.parent.iterdir())  # .bin before .xml, so that a visible graph always has its weights
    size = sum(part.stat().st_size for part in parts)
    if len(parts) > 1:  # an old graph must not be combined with new weights if this process is killed here
        target.unlink(missing_ok=True)
    for part in parts:
        part.replace(target.parent / part.name)
    return Export(
        file=str(target),
        format=form,
        precision=described.precision,
        bytes=size,
        size=described.preprocess.size,
        dynamic_batch=described.dynamic_batch,
        dynamic_size=described.dynamic_size,
        features=described.features,
        difference=found.difference,
        limit=LIMITS[described.precision],
        agreement=found.agreement,
        images=found.images,
        generated=generated,
        multilabel=described.postprocess.multilabel,
    )


def _find(paths: Paths) -> Sequence[Path]:
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    gone = [path for path in listed if not Path(path).exists()]
    if gone:
        raise CompoundNetError(f"{os.fspath(gone[0])}: there is no such folder or image")
    return data.find_images(listed)


Images = Callable[[], Iterable[NDArray[np.float32]]]


def _write_onnx(net: ConvNet, described: ExportedModel, file: Path, calibration: Images) -> None:
    if described.precision == "int8":
        with _between(file) as float32:
            _write_graph(net, described, float32)
            quantise(float32, file, calibration(), described.properties())
    else:
        _write_graph(net, described, file)
    onnx.checker.check_model(file, full_check=True)


def _write_graph(net: ConvNet, described: ExportedModel, file: Path) -> None:
    write_onnx(
        net.fuse(),
        file,
        channels=described.network.in_channels,
        size=described.preprocess.size,
        dynamic_batch=described.dynamic_batch,
        dynamic_size=described.dynamic_size,
        half=described.precision == "float16",
        features=described.features,
        properties=described.properties(),
    )


def _write_openvino(net: ConvNet, described: ExportedModel, file: Path, calibration: Images) -> None:
    with _between(file) as graph:
        _write_onnx(net, described, graph, calibration)
        write_graph(graph, file, described.properties())


@contextmanager
def _between(file: Path) -> Iterator[Path]:
    """A path for an intermediate ONNX file: in a separate folder, so that it never is `file` itself."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        yield Path(folder) / "graph.onnx"


def _write_torch(net: ConvNet, described: ExportedModel, file: Path, _: Images) -> None:
    write_archive(net.fuse(), described, file)


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "torch": _write_torch}
