"""The paper's tables and figures: what it prints, and what is measured here beside it."""

from compoundnet.paper.figures import Figure
from compoundnet.paper.measure import Measured, measure
from compoundnet.paper.registry import names, reproduce
from compoundnet.paper.results import read_results
from compoundnet.paper.tables import Cell, Line, Table

__all__ = [
    "Cell",
    "Figure",
    "Line",
    "Measured",
    "Table",
    "measure",
    "names",
    "read_results",
    "reproduce",
]
