"""The paper's tables and figures: what it prints, and what is measured here beside it."""

from compoundnet.paper.figures import Figure
from compoundnet.paper.measure import Measured, measure
from compoundnet.paper.registry import has_quick, names, reproduce
from compoundnet.paper.report import Report, make_report
from compoundnet.paper.results import Results, read_results
from compoundnet.paper.tables import Cell, Line, Table

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
