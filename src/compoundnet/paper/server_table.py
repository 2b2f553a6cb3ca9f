"""Table 8: accuracy on ImageNet's validation pictures, and on the test pictures that its server scores."""

from __future__ import annotations

from compoundnet.data.catalogue import dataset_facts
from compoundnet.paper.printed import printed_table
from compoundnet.paper.results import Results
from compoundnet.paper.tables import ACCURACIES, Subject, Table, judged, origin, part_only

# Column's first word -> (data set, its split).
_DATASETS = {"val": ("imagenet", "val"), "test": ("imagenet-test", "test")}


def server_table(name: str, results: Results) -> Table:
    """Each cell from a result file: of `evaluate` for validation, of the server's score for test."""
    printed = printed_table(name)
    return judged(name, printed, [_subject(row.network or "", results) for row in printed.rows])


def _subject(network: str, results: Results) -> Subject:
    figures: dict[str, float | str] = {}
    sources: dict[str, str] = {}
    for column, (dataset, split) in _DATASETS.items():
        images = dataset_facts(dataset).sizes[split]
        result = results.find(network, dataset)
        for accuracy in ACCURACIES:
            cell = f"{column}_{accuracy}"
            if result is None:
                sources[cell] = _missing(network, column, images)
            elif result.count != images:
                sources[cell] = part_only(result, images)
            else:
                sources[cell] = origin(result)
                value: float | None = getattr(result, accuracy)
                if value is not None:
                    figures[cell] = value
    return Subject(figures, network, sources=sources)


def _missing(network: str, column: str, images: int) -> str:
    """How the empty cell is filled."""
    if column == "val":
        return f"compoundnet evaluate {network} imagenet:DATA -o RESULTS/{network}.json"
    return (
        f"compoundnet evaluate {network} imagenet-test:DATA --submission FILE; the ImageNet server scores FILE; write"
        f' that into RESULTS/{network}-test.json: network, dataset "imagenet-test", top1 and top5 as fractions, count'
        f" {images}"
    )
