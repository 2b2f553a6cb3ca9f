"""Tables 5 and 8 and Figure 6: measured parameters, and what result files fill."""

from __future__ import annotations

import pytest

from compoundnet import arch, paper
from compoundnet.paper.accuracy_tables import params_without_classifier
from compoundnet.paper.results import Results
from compoundnet.train.results import Result


def cell(name: str, label: str, figure: str, *evaluations: Result) -> paper.TableCell:
    made = paper.reproduce(name, Results(evaluations))
    assert isinstance(made, paper.Table)
    return next(row for row in made.rows if row.label == label).cells[figure]


@pytest.mark.parametrize(
    ("network", "params"),
    [
        ("efficientnet-b0", 4_007_548),
        ("resnet-152", 58_143_808),
        ("inception-v4", 41_142_816),
        ("nasnet-a", 84_720_150),
    ],
)
def test_parameters_leave_the_classifier_out(network: str, params: int) -> None:
    assert params_without_classifier(network) == params


def test_parameters_without_classifier_are_the_same_for_every_number_of_classes() -> None:
    network = arch.network("efficientnet-b4")
    for classes in (10, 101, 500):
        own = network.replace(num_classes=classes)
        classifier = next(layer.params for layer in arch.unroll(own) if layer.name == "classifier")
        assert arch.cost(own).params - classifier == params_without_classifier("efficientnet-b4")


def test_geo_means_are_of_the_measured_ratios() -> None:
    made = paper.reproduce("table5")
    assert isinstance(made, paper.Table)
    rows = {row.label: row.cells["params_ratio"] for row in made.rows}
    public = [one.measured for label, one in rows.items() if ", best public: " in label and one.measured is not None]
    assert len(public) == 8
    product = 1.0
    for ratio in public:
        assert isinstance(ratio, float)
        product *= ratio
    assert rows["geo-mean, best public"].measured == pytest.approx(product ** (1 / 8))
    assert rows["geo-mean, best reported"].shown == "9.42x"


def test_an_empty_cell_says_what_fills_it() -> None:
    accuracy = cell("table5", "Food-101, best public: EfficientNet-B4", "accuracy")
    assert accuracy.verdict == "needs data"
    assert "compoundnet train food101:DATA --from efficientnet-b4 --recipe kornblith" in accuracy.reason
    assert "-o RESULTS/efficientnet-b4-food101.json" in accuracy.reason
    test = cell("table8", "EfficientNet-B0", "test_top1")
    assert "imagenet-test:DATA --submission FILE" in test.reason and "count 100000" in test.reason


def test_a_result_fills_its_cell_with_by_whom_and_when() -> None:
    result = Result("efficientnet-b0", "cifar10", 0.9808, 10_000, model="mine", measured_at="2026-01-02", by="Ada")
    accuracy = cell("table5", "CIFAR-10, best public: EfficientNet-B0", "accuracy", result)
    assert (accuracy.shown, accuracy.verdict) == ("98.08%", "agrees")
    assert accuracy.reason == "mine measured on 2026-01-02 by Ada on 10,000 images."


def test_flowers_aircraft_and_pets_are_judged_by_their_mean_over_classes() -> None:
    label = "Flowers, best public: EfficientNet-B5"
    result = Result("efficientnet-b5", "flowers", 0.5, 6_149, mean_per_class=0.985)
    assert cell("table5", label, "accuracy", result).measured == 0.985
    without = Result("efficientnet-b5", "flowers", 0.985, 6_149)
    empty = cell("table5", label, "accuracy", without)
    assert empty.measured is None and "no mean_per_class" in empty.reason


def test_a_part_of_the_images_fills_nothing() -> None:
    part = Result("efficientnet-b0", "cifar10", 0.98, 1_000)
    accuracy = cell("table5", "CIFAR-10, best public: EfficientNet-B0", "accuracy", part)
    assert accuracy.measured is None and "about all 10,000" in accuracy.reason
    assert (
        cell("table8", "EfficientNet-B0", "val_top1", Result("efficientnet-b0", "imagenet", 0.77, 9)).measured is None
    )


def test_a_later_part_of_the_images_does_not_empty_a_cell() -> None:
    whole = Result("efficientnet-b0", "cifar10", 0.98, 10_000, measured_at="2026-01-02")
    part = Result("efficientnet-b0", "cifar10", 0.5, 1_000, measured_at="2026-01-03")
    assert cell("table5", "CIFAR-10, best public: EfficientNet-B0", "accuracy", whole, part).measured == 0.98
    val, some = (Result("efficientnet-b0", "imagenet", top1, count) for top1, count in ((0.77, 50_000), (0.5, 500)))
    assert cell("table8", "EfficientNet-B0", "val_top1", val, some).measured == 0.77
    assert cell("table2", "EfficientNet-B0", "top1", val, some).measured == 0.77


def test_validation_and_test_of_table8_are_told_apart() -> None:
    val = Result("efficientnet-b0", "imagenet", 0.7711, 50_000, top5=0.9335)
    test = Result("efficientnet-b0", "imagenet-test", 0.7723, 100_000, top5=0.9345)
    made = paper.reproduce("table8", Results((val, test)))
    assert isinstance(made, paper.Table)
    assert {one.verdict for one in made.rows[0].cells.values()} == {"agrees"}
    assert made.counts == {"agrees": 4, "needs data": 28}


def test_figure6_shows_every_accuracy_of_table5_and_ones_own() -> None:
    result = Result("efficientnet-b0", "food101", 0.88, 25_250)
    made = paper.reproduce("figure6", Results((result,)))
    assert isinstance(made, paper.Figure)
    own = [point for point in made.points if point["own"]]
    assert [(point["dataset"], point["accuracy"]) for point in own] == [("Food-101", 0.88)]
    assert len(made.points) - len(own) == 32
    # By the printed accuracies: GPipe on CIFAR-10 and on Pets, and Inception-v4 on Aircraft, are not reached.
    assert made.verdict == "differs"
    assert "10 of 13" in made.reason and "GPipe on CIFAR-10" in made.reason
