"""Torch modules built from networks; the only place where layers are written."""

from compoundnet.nn.net import ConvNet, FeaturePyramid, build

__all__ = ["ConvNet", "FeaturePyramid", "build"]
