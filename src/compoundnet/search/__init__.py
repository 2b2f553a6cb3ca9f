"""Both searches of the paper: the coefficients of compound scaling, and the baseline network. Loaded where used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compoundnet.search.architecture import Architecture as Architecture
    from compoundnet.search.coefficients import CoefficientSearch as CoefficientSearch
    from compoundnet.search.measuring import Measured as Measured
    from compoundnet.search.measuring import measure as measure
    from compoundnet.search.objective import Objective as Objective
    from compoundnet.search.running import run as run
    from compoundnet.search.settings import Job as Job
    from compoundnet.search.settings import Search as Search
    from compoundnet.search.space import Space as Space
    from compoundnet.search.space import find_space as find_space
    from compoundnet.search.storage import Opened as Opened
    from compoundnet.search.storage import open_study as open_study
    from compoundnet.search.worker import work as work

# Name -> module that has it, loaded on first use.
_EXPORTS = {
    "Architecture": "architecture",
    "CoefficientSearch": "coefficients",
    "Job": "settings",
    "Measured": "measuring",
    "Objective": "objective",
    "Opened": "storage",
    "Search": "settings",
    "Space": "space",
    "find_space": "space",
    "measure": "measuring",
    "open_study": "storage",
    "run": "running",
    "work": "worker",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"compoundnet.search.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'compoundnet.search' has no attribute {name!r}")
