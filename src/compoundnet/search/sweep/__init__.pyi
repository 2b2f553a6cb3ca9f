from .learning_rates import Sweep, SweepGrid, SweepPoint, published_grid
from .trainings import sweep

__all__ = ["Sweep", "SweepGrid", "SweepPoint", "published_grid", "sweep"]
