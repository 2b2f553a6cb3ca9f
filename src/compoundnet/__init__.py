"""compoundnet: balance a ConvNet's depth, width and resolution with one coefficient (Tan & Le, ICML 2019)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compoundnet import data as data
    from compoundnet import explain as explain
    from compoundnet import models as models
    from compoundnet import nn as nn
    from compoundnet import paper as paper
    from compoundnet import runtime as runtime
    from compoundnet import search as search
    from compoundnet import train as train
    from compoundnet import zoo as zoo
    from compoundnet.arch import Coefficients as Coefficients
    from compoundnet.arch import Cost as Cost
    from compoundnet.arch import Network as Network
    from compoundnet.arch import Norm as Norm
    from compoundnet.arch import Plan as Plan
    from compoundnet.arch import compound as compound
    from compoundnet.arch import cost as cost
    from compoundnet.arch import network as network
    from compoundnet.arch import plan as plan
    from compoundnet.arch import scale as scale
    from compoundnet.arch import unroll as unroll
    from compoundnet.base import CompoundNetError as CompoundNetError
    from compoundnet.explain import Explainer as Explainer
    from compoundnet.models import load as load
    from compoundnet.models import open_model as open_model
    from compoundnet.nn import build as build
    from compoundnet.runtime import Predictor as Predictor

__version__ = "0.1.0"

# Name -> package that has it. Loaded on first use (PEP 562), so that planning a network never imports torch.
_EXPORTS = {
    "Coefficients": "arch",
    "CompoundNetError": "base",
    "Cost": "arch",
    "Explainer": "explain",
    "Network": "arch",
    "Norm": "arch",
    "Plan": "arch",
    "Predictor": "runtime",
    "build": "nn",
    "compound": "arch",
    "cost": "arch",
    "load": "models",
    "network": "arch",
    "open_model": "models",
    "plan": "arch",
    "scale": "arch",
    "unroll": "arch",
}
_PACKAGES = ("arch", "base", "data", "explain", "models", "nn", "paper", "runtime", "search", "train", "zoo")


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"compoundnet.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    if name in _PACKAGES:
        return importlib.import_module(f"compoundnet.{name}")
    raise AttributeError(f"module 'compoundnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS, *_PACKAGES])
