"""Table 4: EfficientNet-B1 against ResNet-152 and B7 against GPipe's network, each pair timed in the same rounds.

Both sides of a pair run on ONNX Runtime, on one thread, one image at a time, with random weights; the mean of 20 runs,
as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from compoundnet.base import CompoundNetError, format_bytes
from compoundnet.base.machine import free_memory, processor
from compoundnet.paper import digits
from compoundnet.paper.printed import PrintedRow, PrintedTable, printed_table
from compoundnet.paper.reproduction import LEFT_OUT, Table, Verdict
from compoundnet.paper.results import Results
from compoundnet.paper.verdicts import RowMeasurements, find_accuracies, judged, measure_row
from compoundnet.runtime.timing.benchmark import Benchmark, benchmark
from compoundnet.runtime.timing.rounds import RUNS

BACKEND = "onnxruntime"
QUICK, FULL = ("EfficientNet-B1",), ("EfficientNet-B1", "EfficientNet-B7")
# Peak memory of GPipe's network of 557M parameters, while it is exported.
MEMORY = {"EfficientNet-B7": 10e9}


class LatencyTable(Table, frozen=True):
    """Table 4, and by group the underlying benchmarks, with everything that their latencies depend on."""

    benchmarks: Mapping[str, Benchmark]


def latency_table(name: str, results: Results) -> LatencyTable:
    """Time both pairs. Raises CompoundNetError if there is less free memory than GPipe's network needs."""
    return tabulate(name, results, time_groups(FULL))


def quick_latency_table(name: str, results: Results) -> LatencyTable:
    """Time the pair of EfficientNet-B1 alone."""
    return tabulate(name, results, time_groups(QUICK))


def time_groups(groups: tuple[str, ...]) -> dict[str, Benchmark]:
    """Measure, for each group, the latency of one image in the networks of its rows."""
    rows = printed_table("table4").rows
    free = free_memory()
    for group in groups:
        if free is not None and free < MEMORY.get(group, 0):
            raise CompoundNetError(
                f"timing {group} against GPipe's network takes {format_bytes(MEMORY[group])} of memory, and"
                f" {format_bytes(free)} are free; --quick leaves it out"
            )
    done = {}
    for group in groups:
        names = [row.network for row in rows if row.group == group and row.network is not None]
        done[group] = benchmark(names, backends=(BACKEND,), threads=1, batch=1)
    return done


def tabulate(name: str, results: Results, benchmarks: Mapping[str, Benchmark]) -> LatencyTable:
    """Return the table with these latencies by group; a network without one needs data."""
    printed = printed_table(name)
    origin = f"On one core of {processor()}, mean of {RUNS} runs on ONNX Runtime."
    means = {found.network: found.latency.mean / 1e3 for done in benchmarks.values() for found in done.measurements}
    made = judged(name, printed, [_row(row, printed, results, means, origin) for row in printed.rows])
    return LatencyTable(**msgspec.structs.asdict(made), benchmarks=benchmarks)


def _row(
    row: PrintedRow, printed: PrintedTable, results: Results, means: Mapping[str, float], origin: str
) -> RowMeasurements:
    assert row.network is not None and row.group is not None
    own = measure_row(row)
    figures, sources = find_accuracies(results, own.name, printed)
    if own.name not in means:
        missing: dict[str, str] = {figure: LEFT_OUT for figure in ("latency", "speedup") if figure in row.printed}
        return RowMeasurements(figures, own.name, own.resolution, {**sources, **missing})
    figures["latency"] = means[own.name]
    sources["latency"] = origin
    verdicts: dict[str, Verdict] = {"latency": "other machine"}
    if row.label == row.group:
        slower = next(other for other in printed.rows if other.group == row.group and other.label != row.label)
        assert slower.network is not None
        speedup = means[slower.network] / means[own.name]
        claimed = digits.parse(row.printed["speedup"])
        assert claimed is not None
        figures["speedup"] = speedup
        verdicts["speedup"] = "surpasses" if speedup > claimed.amount else "differs"
    return RowMeasurements(figures, own.name, own.resolution, sources, verdicts)
