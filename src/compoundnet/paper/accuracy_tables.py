"""Tables 5 and 8, whose accuracies come from result files: on the transfer data sets, and on ImageNet's test split."""

from __future__ import annotations

import statistics

from compoundnet import arch, zoo
from compoundnet.data.catalogue import DatasetFacts, dataset_facts
from compoundnet.paper.printed import PrintedRow, PrintedTable, printed_table
from compoundnet.paper.reproduction import Table
from compoundnet.paper.results import Results
from compoundnet.paper.verdicts import ACCURACIES, RowMeasurements, judged, origin, part_only

# Table 8: a column's first word -> (data set, its split).
_DATASETS = {"val": ("imagenet", "val"), "test": ("imagenet-test", "test")}


def transfer_table(name: str, results: Results) -> Table:
    """Table 5: parameters are measured now; accuracies come from result files on the whole test split."""
    printed = printed_table(name)
    ratios = _ratios(printed)
    return judged(name, printed, [_measurements(row, results, ratios) for row in printed.rows])


def params_without_classifier(name: str) -> int:
    """Return the parameters of a network known by name. They do not depend on the number of classes."""
    found = zoo.find_network(name)
    if isinstance(found, zoo.ZooNetwork):
        return found.params - found.classifier
    return arch.cost(found.replace(num_classes=0)).params


def measured_accuracy(results: Results, network: str, facts: DatasetFacts) -> tuple[float | None, str]:
    """Return (accuracy by the metric of the data set, its origin), or (None, reason) if there is none on all images."""
    result = results.find(network, facts.name, facts.sizes["test"])
    if result is None:
        return None, ""
    if result.count != facts.sizes["test"]:
        return None, part_only(result, facts.sizes["test"])
    accuracy: float | None = getattr(result, facts.metric)
    if accuracy is None:
        return None, f"{origin(result)} It has no {facts.metric}, by which this data set is judged."
    return accuracy, origin(result)


def _ratios(printed: PrintedTable) -> dict[str, float]:
    """Label -> ratio of parameters to the EfficientNet in the same row, for networks with a printed ratio."""
    networks = {row.label: row.network for row in printed.rows}
    ratios = {}
    for row in printed.rows:
        head = networks.get(row.group or "")
        if row.network is not None and head is not None and row.group != row.label:
            ratios[row.label] = params_without_classifier(row.network) / params_without_classifier(head)
    return ratios


def _measurements(row: PrintedRow, results: Results, ratios: dict[str, float]) -> RowMeasurements:
    if row.dataset is None:  # a geometric mean over the block of rows with the same last words
        block = row.label.partition(", ")[2]
        return RowMeasurements({"params_ratio": statistics.geometric_mean(_of_block(ratios, block))})
    facts = dataset_facts(row.dataset)
    if row.network is None:
        return RowMeasurements({}, sources={"accuracy": "Its authors' result; this network is not implemented here."})
    figures: dict[str, float | str] = {"params": params_without_classifier(row.network)}
    if row.label in ratios:
        figures["params_ratio"] = ratios[row.label]
    accuracy, source = measured_accuracy(results, row.network, facts)
    if accuracy is not None:
        figures["accuracy"] = accuracy
    return RowMeasurements(figures, row.network, sources={"accuracy": source or _missing(row.network, facts)})


def _of_block(ratios: dict[str, float], block: str) -> list[float]:
    return [ratio for label, ratio in ratios.items() if f", {block}: " in label]


def _missing(network: str, facts: DatasetFacts) -> str:
    """How to fill the empty cell."""
    if network not in arch.families().get("efficientnet", ()):
        return f"A result file on {facts.name} fills it; its weights come from its authors."
    model = f"{network}-{facts.name}"
    return (
        f"compoundnet train {facts.name}:DATA --from {network} --recipe kornblith --sweep -o {model}; then"
        f" compoundnet evaluate {model} {facts.name}:DATA -o RESULTS/{model}.json"
    )


def server_table(name: str, results: Results) -> Table:
    """Table 8: accuracy on ImageNet's validation images, and on the test images that its server scores.

    Each cell comes from a result file: from `evaluate` for validation, with the score of the server for test.
    """
    printed = printed_table(name)
    return judged(name, printed, [_server_row(row.network or "", results) for row in printed.rows])


def _server_row(network: str, results: Results) -> RowMeasurements:
    figures: dict[str, float | str] = {}
    sources: dict[str, str] = {}
    for column, (dataset, split) in _DATASETS.items():
        images = dataset_facts(dataset).sizes[split]
        result = results.find(network, dataset, images)
        for accuracy in ACCURACIES:
            cell = f"{column}_{accuracy}"
            if result is None:
                sources[cell] = _missing_score(network, column, images)
            elif result.count != images:
                sources[cell] = part_only(result, images)
            else:
                sources[cell] = origin(result)
                value: float | None = getattr(result, accuracy)
                if value is not None:
                    figures[cell] = value
    return RowMeasurements(figures, network, sources=sources)


def _missing_score(network: str, column: str, images: int) -> str:
    """How to fill the empty cell."""
    if column == "val":
        return f"compoundnet evaluate {network} imagenet:DATA -o RESULTS/{network}.json"
    return (
        f"compoundnet evaluate {network} imagenet-test:DATA --submission FILE; the ImageNet server scores FILE; write"
        f' that into RESULTS/{network}-test.json: network, dataset "imagenet-test", top1 and top5 as fractions, count'
        f" {images}"
    )
