"""compoundnet: balance a ConvNet's depth, width and resolution with one coefficient (Tan & Le, ICML 2019)."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Name -> module that defines it. Loaded on first use (PEP 562), so that planning a network never imports torch.
_EXPORTS = {
    "Coefficients": "arch",
    "CompoundNetError": "arch",
    "Network": "arch",
    "build": "nn",
    "compound": "arch",
    "cost": "arch",
    "network": "arch",
    "plan": "arch",
    "scale": "arch",
    "unroll": "arch",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"compoundnet.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'compoundnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
