from .net import ConvNet, FeaturePyramid, build

__all__ = [
    "ConvNet",
    "FeaturePyramid",
    "build",
]
