from . import arch, base, data, explain, fit, models, nn, paper, runtime, search, train, zoo
from .arch import Coefficients, Cost, Network, Norm, Plan, compound, cost, network, plan, scale, unroll
from .base import CompoundNetError
from .explain import Explainer
from .models import load, open_model
from .nn import build
from .runtime import Predictor
from .zoo import create_model

__all__ = [
    "Coefficients",
    "CompoundNetError",
    "Cost",
    "Explainer",
    "Network",
    "Norm",
    "Plan",
    "Predictor",
    "arch",
    "base",
    "build",
    "compound",
    "cost",
    "create_model",
    "data",
    "explain",
    "fit",
    "load",
    "models",
    "network",
    "nn",
    "open_model",
    "paper",
    "plan",
    "runtime",
    "scale",
    "search",
    "train",
    "unroll",
    "zoo",
]
__version__: str
