from .architecture.objective import Objective
from .architecture.settings import ArchitectureSearch
from .architecture.space import Space, find_space
from .coefficients.settings import CoefficientSearch
from .execution import run
from .findings import Findings
from .kinds import Search, open_study
from .report import find, write_report
from .study.lines import StudyLines, at_budgets, paper_lines, with_rule
from .study.settings import ScalingStudy

__all__ = [
    "ArchitectureSearch",
    "CoefficientSearch",
    "Findings",
    "Objective",
    "ScalingStudy",
    "Search",
    "Space",
    "StudyLines",
    "at_budgets",
    "find",
    "find_space",
    "open_study",
    "paper_lines",
    "run",
    "with_rule",
    "write_report",
]
