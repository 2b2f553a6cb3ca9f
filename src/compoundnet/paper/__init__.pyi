from .formats import write_reproduction
from .printed import printed_top1
from .registry import has_quick, names, reproduce
from .report import Report, make_report, write_report
from .reproduction import Figure, Table, TableCell, TableRow
from .results import Results, read_results

__all__ = [
    "Figure",
    "Report",
    "Results",
    "Table",
    "TableCell",
    "TableRow",
    "has_quick",
    "make_report",
    "names",
    "printed_top1",
    "read_results",
    "reproduce",
    "write_report",
    "write_reproduction",
]
