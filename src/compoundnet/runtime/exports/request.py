"""What an export is asked for, checked before any work."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models import ExportedModel
from compoundnet.runtime.exports.formats import Format
from compoundnet.runtime.onnx_graph import OPSETS

# Precision -> the largest difference from torch in float32, as a fraction of its largest logit. int8 computes a
# different function, so it is judged by how often the most probable class stays the same.
LIMITS = {"float32": 1e-4, "float16": 2e-2, "int8": None}


class ExportRequest(msgspec.Struct, frozen=True):
    """The options of an export.

    Attributes:
        file: The file to write; a link is followed.
        format: Its format.
        precision: float32, float16 or int8.
        dynamic_batch: Whether the file accepts any number of images at a time.
        dynamic_size: Whether it accepts images of any size.
        with_cam: Whether it outputs the last feature map too.
        with_preprocessing: Whether it reads uint8[H, W, 3] and gives probabilities.
        opset: Of ONNX; None for the default.
        calibrated: Whether images for the calibration of int8 are given.
        max_drop: The largest loss of accuracy by int8, as a fraction; None for no bound.
        labelled: Whether labelled images are given, on which the loss is measured.
        to_nearest: Whether each weight of int8 is rounded to the nearest step.
    """

    file: Path
    format: Format
    precision: str
    dynamic_batch: bool
    dynamic_size: bool
    with_cam: bool
    with_preprocessing: bool
    opset: int | None
    calibrated: bool
    max_drop: float | None = None
    labelled: bool = False
    to_nearest: bool = False

    def check(self) -> None:
        """Raise a CompoundNetError that says which options exclude each other, or what has to be installed."""
        form = self.format
        if self.precision not in LIMITS:
            raise CompoundNetError(f"there is no precision {self.precision!r}{did_you_mean(self.precision, LIMITS)}")
        if self.precision not in form.precisions:
            raise CompoundNetError(
                f"the format {form.name} holds {' or '.join(form.precisions)}, not {self.precision}; other formats hold"
                " that"
            )
        if self.precision == "int8" and not self.calibrated:
            raise CompoundNetError("int8 is calibrated on images: give --calibrate a folder of some hundred")
        if self.precision != "int8" and self.calibrated:
            raise CompoundNetError(f"calibration is for --precision int8, not {self.precision}")
        if self.precision != "int8" and self.to_nearest:
            raise CompoundNetError(f"to_nearest is for precision int8, not {self.precision}")
        self._check_floor()
        self._check_onnx()
        if (self.dynamic_batch or self.dynamic_size) and not form.dynamic:
            raise CompoundNetError(
                f"a file of format {form.name} reads one image of the model's size at a time: leave dynamic-batch and"
                " dynamic-size out"
            )
        form.check_installed()

    def _check_floor(self) -> None:
        """The bound on the loss of accuracy by int8."""
        if self.max_drop is None:
            if self.labelled:
                raise CompoundNetError("labelled images are for --max-drop: give both, or --images to compare on")
            return
        if self.precision != "int8":
            raise CompoundNetError(f"max-drop is for --precision int8, not {self.precision}")
        if not self.labelled:
            raise CompoundNetError("max-drop is measured on labelled images: give --data a folder of class folders")
        if not 0 <= self.max_drop < 1:
            raise CompoundNetError(f"max-drop must be a fraction of the images from 0 to 1, got {self.max_drop:g}")

    def _check_onnx(self) -> None:
        """The options of ONNX alone."""
        onnx = self.format.name == "onnx"
        if self.with_cam and (not onnx or self.precision == "int8"):
            raise CompoundNetError(
                f"with-cam is for the format onnx in float32 or float16, got {self.format.name} in {self.precision}:"
                " leave one of them out"
            )
        if self.opset is not None and not onnx:
            raise CompoundNetError(f"opset is for the format onnx, got {self.format.name}: leave one of them out")
        if self.opset is not None and self.opset not in OPSETS:
            raise CompoundNetError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {self.opset}")
        if not self.with_preprocessing:
            return
        if not onnx:
            raise CompoundNetError(
                f"with-preprocessing is for the format onnx, which OpenVINO reads too, got {self.format.name}:"
                " leave one of them out"
            )
        for name in ("dynamic_batch", "dynamic_size", "with_cam"):
            if getattr(self, name):
                raise CompoundNetError(
                    f"a file with preprocessing reads one image of any size and gives its probabilities: leave"
                    f" {name.replace('_', '-')} out"
                )

    def check_network(self, described: ExportedModel) -> None:
        """Raise a CompoundNetError if the network has not what an option needs."""
        network, name = described.network, described.name
        if self.with_cam and not network.has_linear_head:
            raise CompoundNetError(
                f"{name} has no class activation maps, since its logits are no sums over its last feature map"
                " (`explain` uses Grad-CAM for it, which needs the model folder): leave with-cam out"
            )
        if self.with_preprocessing and (network.in_channels != 3 or network.num_classes < 1):
            raise CompoundNetError(
                f"{name} reads {network.in_channels} channels and predicts {network.num_classes} classes;"
                " with-preprocessing is for models that read 3 (RGB) and predict at least 1"
            )
