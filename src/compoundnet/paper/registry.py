"""Every table and figure that can be reproduced, by name. A new one needs a line here and the function named there."""

from __future__ import annotations

import importlib

from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError
from compoundnet.paper.reproduction import Figure, Table
from compoundnet.paper.results import Results

# Name -> (module, function); the function takes (name, results). The module is imported on demand, because figures need
# matplotlib and tables do not.
_REPRODUCTIONS = {
    "table1": ("tables", "stage_table"),
    "table2": ("tables", "network_table"),
    "table3": ("tables", "network_table"),
    "table4": ("latency_table", "latency_table"),
    "table5": ("accuracy_tables", "transfer_table"),
    "table6": ("tables", "dataset_table"),
    "table7": ("tables", "network_table"),
    "table8": ("accuracy_tables", "server_table"),
    "figure1": ("accuracy_plots", "accuracy_against_size"),
    "figure2": ("scaling_diagram", "ways_of_scaling"),
    "figure3": ("scaling_curves", "one_dimension"),
    "figure4": ("scaling_curves", "four_baselines"),
    "figure5": ("accuracy_plots", "accuracy_against_cost"),
    "figure6": ("transfer_plots", "transfer_accuracies"),
    "figure7": ("cam_figure", "activation_maps"),
    "figure8": ("ways_of_scaling_plot", "ways_at_equal_cost"),
}
# The same without the parts that take minutes.
_QUICK = {"table4": ("latency_table", "quick_latency_table")}


def names() -> tuple[str, ...]:
    """Return the names of the tables and figures for `reproduce`."""
    return tuple(_REPRODUCTIONS)


def has_quick(name: str) -> bool:
    """Return whether a part of it can be omitted."""
    return name in _QUICK


def reproduce(name: str, results: Results | None = None, *, quick: bool = False) -> Table | Figure:
    """Reproduce a table or figure of the paper from measurements made now and results of users.

    Args:
        name: One of `names()`.
        results: The results of users.
        quick: Whether to omit parts that take minutes and gigabytes: of table4, GPipe's network and its counterpart.

    Raises:
        CompoundNetError: The name is not in `names()`, or no part of it can be omitted.
    """
    wanted = canonical(name).replace("-", "").replace(" ", "")
    if wanted not in _REPRODUCTIONS:
        raise CompoundNetError(f"there is no reproduction named {name!r}; known: {', '.join(_REPRODUCTIONS)}")
    if quick and wanted not in _QUICK:
        raise CompoundNetError(f"{wanted} has no quick half; {', '.join(_QUICK)} has")
    module, function = (_QUICK if quick else _REPRODUCTIONS)[wanted]
    make = getattr(importlib.import_module(f"compoundnet.paper.{module}"), function)
    made: Table | Figure = make(wanted, results or Results())
    return made
