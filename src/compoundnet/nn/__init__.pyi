from .features import FeatureInfo, FeaturePyramid
from .net import ConvNet, build

__all__ = [
    "ConvNet",
    "FeatureInfo",
    "FeaturePyramid",
    "build",
]
