"""Table 5: fine-tuned networks on the transfer data sets, their parameters without the classifier."""

from __future__ import annotations

import statistics

from compoundnet import arch, zoo
from compoundnet.data.catalogue import DatasetFacts, dataset_facts
from compoundnet.paper.printed import PrintedTable, Row, printed_table
from compoundnet.paper.results import Results
from compoundnet.paper.tables import Subject, Table, judged, origin, part_only


def transfer_table(name: str, results: Results) -> Table:
    """Parameters are measured now; an accuracy is a result file's on the whole test split."""
    printed = printed_table(name)
    ratios = _ratios(printed)
    return judged(name, printed, [_subject(row, results, ratios) for row in printed.rows])


def params_without_classifier(name: str) -> int:
    """Of any network that is known by name. It is the same whatever number of classes it tells."""
    wanted = arch.canonical(name)
    if wanted in zoo.entries():
        found = zoo.network(wanted)
        return found.params - found.classifier
    return arch.cost(arch.network(name).replace(num_classes=0)).params


def measured_accuracy(results: Results, network: str, facts: DatasetFacts) -> tuple[float | None, str]:
    """(accuracy by the data set's own metric, where it comes from); (None, why) where there is none on all pictures."""
    result = results.find(network, facts.name)
    if result is None:
        return None, ""
    if result.count != facts.sizes["test"]:
        return None, part_only(result, facts.sizes["test"])
    accuracy: float | None = getattr(result, facts.metric)
    if accuracy is None:
        return None, f"{origin(result)} It has no {facts.metric}, which this data set is judged by."
    return accuracy, origin(result)


def _ratios(printed: PrintedTable) -> dict[str, float]:
    """Label -> times the parameters of the EfficientNet beside it, of the networks that have them printed."""
    networks = {row.label: row.network for row in printed.rows}
    ratios = {}
    for row in printed.rows:
        head = networks.get(row.group or "")
        if row.network is not None and head is not None and row.group != row.label:
            ratios[row.label] = params_without_classifier(row.network) / params_without_classifier(head)
    return ratios


def _subject(row: Row, results: Results, ratios: dict[str, float]) -> Subject:
    if row.dataset is None:  # a geo-mean, of the block of rows that shares its last words
        block = row.label.partition(", ")[2]
        return Subject({"params_ratio": statistics.geometric_mean(_of_block(ratios, block))})
    facts = dataset_facts(row.dataset)
    if row.network is None:
        return Subject({}, sources={"accuracy": "Its authors' result; no network of that name is written here."})
    figures: dict[str, float | str] = {"params": params_without_classifier(row.network)}
    if row.label in ratios:
        figures["params_ratio"] = ratios[row.label]
    accuracy, source = measured_accuracy(results, row.network, facts)
    if accuracy is not None:
        figures["accuracy"] = accuracy
    return Subject(figures, row.network, sources={"accuracy": source or _missing(row.network, facts)})


def _of_block(ratios: dict[str, float], block: str) -> list[float]:
    return [ratio for label, ratio in ratios.items() if f", {block}: " in label]


def _missing(network: str, facts: DatasetFacts) -> str:
    """How the empty cell is filled."""
    if network not in arch.families().get("efficientnet", ()):
        return f"A result file on {facts.name} fills it; its weights come from its authors."
    model = f"{network}-{facts.name}"
    return (
        f"compoundnet train {facts.name}:DATA --from {network} --recipe kornblith --sweep -o {model}; then"
        f" compoundnet evaluate {model} {facts.name}:DATA -o RESULTS/{model}.json"
    )
