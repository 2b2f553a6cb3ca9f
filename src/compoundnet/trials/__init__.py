"""The engine of searches: trials of networks in optuna studies, workers that share them, what they measure."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
