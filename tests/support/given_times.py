"""Benchmarks of Table 4's networks with given times, as `time_groups` gives measured ones."""

from __future__ import annotations

from collections.abc import Mapping

from compoundnet.paper.printed import printed_table
from compoundnet.runtime.timing.benchmark import Benchmark, Measurement
from compoundnet.runtime.timing.rounds import setting, summarise


def given_times(means: Mapping[str, float]) -> dict[str, Benchmark]:
    """By group, of seconds by network."""
    found: dict[str, list[Measurement]] = {}
    for row in printed_table("table4").rows:
        if row.network is not None and row.group is not None and row.network in means:
            latency = summarise([means[row.network] * 1e3])
            found.setdefault(row.group, []).append(
                Measurement(
                    row.network,
                    row.network,
                    "compoundnet",
                    "onnxruntime",
                    "random",
                    "float32",
                    224,
                    1,
                    1,
                    latency,
                    1e3 / latency.median,
                )
            )
    return {group: Benchmark(setting(threads=1, batch=1), tuple(rows), ()) for group, rows in found.items()}
