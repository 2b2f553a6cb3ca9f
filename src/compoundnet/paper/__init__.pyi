from .figures import Figure
from .measure import Measured, measure
from .registry import has_quick, names, reproduce
from .report import Report, make_report
from .results import Results, read_results
from .tables import Cell, Line, Table

__all__ = [
    "Cell",
    "Figure",
    "Line",
    "Measured",
    "Report",
    "Results",
    "Table",
    "has_quick",
    "make_report",
    "measure",
    "names",
    "read_results",
    "reproduce",
]
