from .architecture import Architecture
from .coefficients import CoefficientSearch
from .measuring import Measured, measure
from .objective import Objective
from .running import run
from .settings import Job, Search
from .space import Space, find_space
from .storage import Opened, open_study
from .worker import work

__all__ = [
    "Architecture",
    "CoefficientSearch",
    "Job",
    "Measured",
    "Objective",
    "Opened",
    "Search",
    "Space",
    "find_space",
    "measure",
    "open_study",
    "run",
    "work",
]
