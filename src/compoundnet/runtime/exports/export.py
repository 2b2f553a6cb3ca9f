"""Export of a model to a file for another runtime. The file is compared with torch before it gets its final name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import (
    CompoundNetError,
    Notify,
    check_output_file,
    followed,
    ignore,
    replace_together,
    scratch_folder,
)
from compoundnet.data import Dataset, find_images
from compoundnet.models import ExportedModel, Model, ModelFolder, Postprocess, Preprocess, load, open_folder
from compoundnet.models.checkpoints import check_values
from compoundnet.models.exported import is_exported
from compoundnet.models.labels import check_labels
from compoundnet.models.preprocess import default_preprocess
from compoundnet.nn import ConvNet
from compoundnet.runtime.backends.torch import load_archive
from compoundnet.runtime.exports.accuracy_floor import AccuracyFloor, LabelledImages, meet_floor
from compoundnet.runtime.exports.comparison import (
    Comparison,
    compare,
    compare_probabilities,
    generated_images,
    noise,
    read_images,
    runner,
    torch_run,
)
from compoundnet.runtime.exports.formats import Format, Source, find_format, include_preprocessing
from compoundnet.runtime.exports.request import LIMITS, ExportRequest
from compoundnet.runtime.onnx_graph import OPSET
from compoundnet.runtime.session_source import Run, for_inference

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# The number of the given images that are compared if the precision is not judged on all of them.
_COMPARED = 16
# The largest difference of a probability between a file that preprocesses images itself and `predict`.
_PROBABILITY_LIMIT = 0.01
# The largest difference of a logit between the graph of a .pt2 and its network built anew, as a fraction of the
# largest, in any precision: both run the same operations of torch.
_SAME = 1e-5


class Export(msgspec.Struct, frozen=True):
    """An exported file, and the deviation of its logits from those of torch in float32.

    Attributes:
        file: The file.
        format: onnx, openvino, torch, litert or coreml.
        precision: float32, float16 or int8.
        bytes: Size of the file, including the weights beside it.
        size: Side of the images, pixels.
        dynamic_batch: Whether it accepts any number of images at a time.
        dynamic_size: Whether it accepts images of any size.
        features: Whether it outputs the last feature map besides the logits.
        difference: The largest difference of a logit, as a fraction of torch's largest logit; None of a Core ML
            package, which does not run here, and whose layers, shapes and weights were compared instead.
        limit: The largest allowed difference; None for int8.
        agreement: Fraction of the images with the same most probable class as in torch, or of a model of several labels
            an image with the same labels; None without images.
        multilabel: Whether the model predicts several labels an image.
        images: The number of images on which it was compared.
        generated: Whether the images were generated because none were given.
        opset: Of ONNX; None for other formats.
        with_preprocessing: Whether it reads uint8[H, W, 3] of any size and gives probabilities.
        probability_difference: The largest difference of a probability from preprocessing with this package; None
            without preprocessing in the file.
        floor: What `max_drop` led to; None without it.
        calibrated: The number of images on which int8 was calibrated; 0 in another precision.
    """

    file: str
    format: str
    precision: str
    bytes: int
    size: int
    dynamic_batch: bool
    dynamic_size: bool
    features: bool
    difference: float | None
    limit: float | None
    agreement: float | None
    images: int
    generated: bool
    multilabel: bool = False
    opset: int | None = None
    with_preprocessing: bool = False
    probability_difference: float | None = None
    floor: AccuracyFloor | None = None
    calibrated: int = 0


def export(
    model: str | os.PathLike[str] | Model | ConvNet,
    output: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002  # the option's name on the command line
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
    with_cam: bool = False,
    with_preprocessing: bool = False,
    opset: int | None = None,
    precision: str = "float32",
    calibrate: Paths | None = None,
    max_drop: float | None = None,
    to_nearest: bool = False,
    data: str | os.PathLike[str] | Dataset | None = None,
    images: Paths | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    postprocess: Postprocess | None = None,
    notify: Notify = ignore,
) -> Export:
    """Write a model (name, folder, opened) or a network in memory to one file, which `predict` accepts as a model.

    Args:
        model: A name of `compoundnet models list`, a model folder, an opened one, or a ConvNet.
        output: The file to write. Its suffix: .onnx, .xml (OpenVINO; weights go to a .bin beside it), .pt2 (torch),
            .tflite (LiteRT) or .mlpackage (Core ML, a folder).
        format: onnx, openvino, torch, litert or coreml; by default that of the suffix.
        dynamic_batch: Accept any number of images at a time instead of one.
        dynamic_size: Accept any image size from 32 px instead of only that of the model.
        with_cam: Add an output `features`: the last feature map float32[N, C, h, w], which `explain` needs. Not for
            networks without class activation maps, such as MobileNetV4.
        with_preprocessing: Read `image` uint8[H, W, 3] (RGB, any size) and give `probabilities` float32[1, classes].
            For the format onnx.
        opset: ONNX's, 13 to 21; 18 by default.
        precision: float32; float16 weights and arithmetic with float32 in and out; int8, which needs `calibrate`.
        calibrate: Images, or folders of them, for the calibration of int8: some hundreds, similar to those in use.
        max_drop: The largest loss of accuracy by int8 on `data`, as a fraction of its images: the layers that lose most
            stay in float32.
        to_nearest: Round each weight to the nearest step of int8. Otherwise, in the formats onnx and openvino, weights
            are rounded together so that each layer's output changes least on the images of `calibrate` (OPTQ, Frantar
            et al. 2023). That loses less accuracy and takes seconds, which a file made only to be timed can save.
        data: Labelled images for `max_drop`, as `compoundnet.data.open_dataset` takes them, or an opened data set: the
            test split, or val if there is no test split, or all if there is neither.
        images: The images for the comparison, besides noise; by default those of `calibrate`, or generated ones.
        preprocess: Replaces that of the model; for a ConvNet the authors' preprocessing by default.
        labels: Replace those of the model; for a ConvNet none by default.
        postprocess: Replaces that of the model; for a ConvNet one class an image, by softmax, by default.
        notify: Called with a line on images that are left out, on what was understood of `data`, on a range of values
            that had to be found, and for each file that `max_drop` tries.

    Returns:
        The file, and its deviation from torch.

    Raises:
        CompoundNetError: The options exclude each other; the number of labels is not that of the classes; a library is
            missing; the opset is too low for the network; no int8 file loses less than `max_drop`; the file differs
            from torch by more than LIMITS allows, or its probabilities from those of this package by more than 0.01; or
            the network was changed in memory and goes to a .pt2, of which this package reads the weights only. No file
            is written then, and an older file of that name stays.
    """
    output = Path(output)
    request = ExportRequest(
        output,
        find_format(format, output),
        precision,
        dynamic_batch,
        dynamic_size,
        with_cam,
        with_preprocessing,
        opset,
        calibrated=calibrate is not None,
        max_drop=max_drop,
        labelled=data is not None,
        to_nearest=to_nearest,
    )
    request.check()
    _check_output(output, request.format)
    target = followed(output)
    calibration = [] if calibrate is None else _find(calibrate, notify)
    shown = calibration if images is None else _find(images, notify)
    net, described = _described(model, target, request, preprocess, labels, postprocess)
    request.check_network(described)
    how, found_range = described.preprocess.with_range_of(shown if images is None else chain(calibration, shown))
    if found_range is not None:
        notify(found_range)
    channels = described.network.in_channels
    if channels != 3 and (calibration or shown):
        raise CompoundNetError(f"{described.name} reads {channels} channels; images are for models that read 3 (RGB)")

    labelled = None if data is None else LabelledImages(data, described, notify)

    def calibration_images() -> Iterable[NDArray[np.float32]]:
        return (how.pixels(image) for image in read_images(calibration, how))

    def compared_on() -> Iterator[Image.Image]:
        if channels != 3:
            return iter(())
        return read_images(shown, how) if shown else generated_images(how.size)

    with scratch_folder(target) as scratch:
        file = scratch / target.name
        source = Source(net, described, calibration_images, opset or OPSET, to_nearest)
        floor = None
        if precision != "int8":
            request.format.write(source, file)
        else:
            assert request.format.quantiser is not None
            quantiser = request.format.quantiser(source, scratch)
            if max_drop is None or labelled is None:
                quantiser.write(file)
            else:
                floor = meet_floor(quantiser, file, runner, torch_run(net), labelled, max_drop, notify)
        found, apart = None, None
        if request.format.runs:
            run = runner(file)
            noises = noise(channels, how.size, dynamic_batch=dynamic_batch, dynamic_size=dynamic_size)
            some = compared_on() if precision == "int8" else islice(compared_on(), _COMPARED)
            found = compare(net, run, noises, (how.pixels(image) for image in some), described.postprocess)
            _check(found, precision, target)
            if request.format.name == "torch":
                _check_rebuilt(msgspec.structs.replace(described, file=file), run, target)
            if with_preprocessing:
                include_preprocessing(file, described, file)
                images_of_all_sizes = islice(compared_on(), _COMPARED)
                apart = compare_probabilities(file, run, images_of_all_sizes, how, described.postprocess)
                _check_probabilities(apart, target)
        return Export(
            file=str(target),
            format=request.format.name,
            precision=precision,
            bytes=_move(file, target),
            size=how.size,
            dynamic_batch=dynamic_batch,
            dynamic_size=dynamic_size,
            features=with_cam,
            difference=None if found is None else found.difference,
            limit=None if found is None else LIMITS[precision],
            agreement=None if found is None else found.agreement,
            images=0 if found is None else found.images,
            generated=not shown and found is not None and found.images > 0,
            multilabel=described.postprocess.multilabel,
            opset=(opset or OPSET) if request.format.name == "onnx" else None,
            with_preprocessing=with_preprocessing,
            probability_difference=apart,
            floor=floor,
            calibrated=len(calibration),
        )


def _described(
    model: str | os.PathLike[str] | Model | ConvNet,
    target: Path,
    request: ExportRequest,
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
        name,
        network,
        preprocess,
        names,
        postprocess,
        request.precision,
        request.dynamic_batch,
        request.dynamic_size,
        target,
        features=request.with_cam,
        with_preprocessing=request.with_preprocessing,
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


def _check_rebuilt(described: ExportedModel, run: Run, target: Path) -> None:
    """Raise a CompoundNetError unless a .pt2 computes what sessions make of it: its network with its weights."""
    batch = next(
        noise(described.network.in_channels, described.preprocess.size, dynamic_batch=False, dynamic_size=False)
    )
    try:
        rebuilt, expected = torch_run(load_archive(described))(batch), run(batch)
        same = bool(np.abs(rebuilt - expected).max() <= _SAME * np.abs(expected).max())
    except CompoundNetError:  # other weights than those of the network
        same = False
    if not same:
        raise CompoundNetError(
            f"{target.name} was not kept: compoundnet reads the weights of a .pt2, not its graph, and this network was"
            " changed in memory; export it to .onnx"
        )


def _check_probabilities(difference: float, target: Path) -> None:
    if difference > _PROBABILITY_LIMIT:
        raise CompoundNetError(
            f"{target.name} was not kept: with its own preprocessing its probabilities differ by {difference:.2g} from"
            f" those of `predict`, and {_PROBABILITY_LIMIT} is allowed. Please report it, with the model and the images"
        )


def _check_output(output: Path, form: Format) -> None:
    """Raise a CompoundNetError if the output cannot be written; a folder replaces only one of its own kind."""
    if not (form.folder and output.is_dir()):
        check_output_file(output)
    elif not (output / "Manifest.json").is_file():
        raise CompoundNetError(f"{output}: is a folder, and no {form.name} package that could be replaced")
    else:
        check_output_file(output / "Manifest.json")


def _move(file: Path, target: Path) -> int:
    """Move a file from its scratch folder, with the weights beside it, to its name; return their bytes."""
    parts = sorted(file.parent.iterdir())  # .bin before .xml, so that a visible graph always has its weights
    size = sum(inner.stat().st_size for part in parts for inner in (part, *part.rglob("*")) if inner.is_file())
    replace_together(file.parent, {part: target.parent / part.name for part in parts})
    return size


def _find(paths: Paths, notify: Notify) -> Sequence[Path]:
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    gone = [path for path in listed if not Path(path).exists()]
    if gone:
        raise CompoundNetError(f"{os.fspath(gone[0])}: there is no such folder or image")
    return find_images(listed, notify=notify)
