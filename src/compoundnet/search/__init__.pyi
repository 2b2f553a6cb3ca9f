from .architecture import Architecture
from .coefficients import CoefficientSearch
from .kinds import Search, open_study
from .objective import Objective
from .running import run
from .space import Space, find_space

__all__ = [
    "Architecture",
    "CoefficientSearch",
    "Objective",
    "Search",
    "Space",
    "find_space",
    "open_study",
    "run",
]
