"""Tables 1, 2, 3, 6 and 7: stages, sizes and costs, measured without numpy or torch."""

from __future__ import annotations

from compoundnet import arch
from compoundnet.paper.printed import printed_table
from compoundnet.paper.reproduction import Table
from compoundnet.paper.results import Results
from compoundnet.paper.verdicts import RowMeasurements, find_accuracies, judged, measure_row


def stage_table(name: str, results: Results) -> Table:
    """Table 1: the stages of EfficientNet-B0."""
    del results  # it has no accuracies
    rows = [
        RowMeasurements(
            {
                "operator": stage.operator,
                "resolution": f"{stage.resolution}x{stage.resolution}",
                "channels": stage.channels,
                "layers": stage.layers,
            }
        )
        for stage in arch.stage_costs(arch.network("efficientnet-b0"))
    ]
    return judged(name, printed_table(name), rows)


def network_table(name: str, results: Results) -> Table:
    """Tables 2, 3 and 7: networks by size, cost and accuracy."""
    printed = printed_table(name)
    measured = {row.label: measure_row(row) for row in printed.rows}
    rows = []
    for row in printed.rows:
        own = measured[row.label]
        figures: dict[str, float | str] = {"params": own.params, "macs": own.macs}
        if row.group is not None:
            head = measured[row.group]
            figures |= {"params_ratio": own.params / head.params, "macs_ratio": own.macs / head.macs}
        accuracies, sources = find_accuracies(results, own.name, printed)
        figures |= accuracies
        rows.append(RowMeasurements(figures, own.name, own.resolution, sources))
    return judged(name, printed, rows)


def dataset_table(name: str, results: Results) -> Table:
    """Table 6: the sizes of the published splits."""
    del results  # it has no accuracies
    printed = printed_table(name)
    return judged(name, printed, [RowMeasurements(dict(row.published)) for row in printed.rows])
