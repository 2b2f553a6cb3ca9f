"""Evaluation: counts that can be checked by hand, class names that must match, the server's format."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from scipy import sparse
from small_train import CLASSES, small_dataset, small_network

from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.data.loader import loader
from compoundnet.data.model_classes import match_classes
from compoundnet.data.sources import Arrays
from compoundnet.models import ModelFolder, Preprocess, load, write_folder
from compoundnet.nn import build
from compoundnet.paper import read_results
from compoundnet.runtime import export
from compoundnet.train import Hardware, evaluate, launch
from compoundnet.train.counts import Counts
from compoundnet.train.evaluation.single_label import SingleLabelReport
from compoundnet.train.submission import class_numbers, submission


def model(folder: Path, labels: tuple[str, ...] | None = CLASSES, classes: int = 3) -> ModelFolder:
    torch.manual_seed(1)
    state = build(small_network(classes)).state_dict()
    return write_folder(folder, small_network(classes), state, Preprocess(32, 1.0), labels=labels, readme="test\n")


def greys(split: Split) -> Dataset:
    return Dataset("greys", {split.name: split})


def test_figures_by_hand() -> None:
    confusion = np.zeros((7, 7), np.int64)
    confusion[0, :2] = 6, 2
    confusion[3, 3] = 2
    counts = Counts(sparse.csr_array(confusion), in_top5=9, loss=0.0)
    assert (counts.count, counts.top1, counts.top5) == (10, 0.8, 0.9)
    assert counts.mean_per_class == (0.75 + 1.0) / 2  # the classes without images do not count
    assert Counts(sparse.csr_array(confusion[:4, :4]), 10, 0.0).top5 is None


def test_every_image_is_counted_as_the_network_says(tmp_path: Path) -> None:
    opened, split = model(tmp_path / "model"), small_dataset(test=31).split("test")
    found = evaluate(opened, small_dataset(test=31), batch=8)
    images, labels, *_ = next(iter(loader(split, opened.preprocess, batch=31)))
    with torch.no_grad():
        predicted = load(opened)(images).argmax(1)
    for true in range(3):
        for other in range(3):
            assert found.confusion[true, other] == int(((labels == true) & (predicted == other)).sum())
    assert found.result.top1 == pytest.approx(float((predicted == labels).float().mean()))
    assert isinstance(found.report, SingleLabelReport)
    assert sum(score.count for score in found.report.classes) == 31 == found.result.count
    assert found.draw_confusion().startswith(b"\x89PNG")


@pytest.mark.parametrize(("file", "form"), [("m.onnx", "onnx"), pytest.param("m.pt2", "torch", marks=pytest.mark.slow)])
def test_an_exported_file_is_as_right_as_its_model(tmp_path: Path, file: str, form: str) -> None:
    opened, greys = model(tmp_path / "model"), small_dataset(test=31)
    export(opened, tmp_path / file, format=form)
    expected = evaluate(opened, greys, backend="torch", batch=8)
    found = evaluate(tmp_path / file, greys, batch=8, workers=1)
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    assert found.report.labels == CLASSES
    if form == "onnx":
        with pytest.raises(CompoundNetError, match="runs on onnxruntime"):
            evaluate(tmp_path / file, greys, backend="torch")


@pytest.mark.slow
def test_memory_stays_flat_over_many_images(tmp_path: Path) -> None:
    """Of 4,000 images of 96 px: kept, they would take 442 MB."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell a process's memory in /proc")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    large = msgspec.structs.replace(model(tmp_path / "model"), preprocess=Preprocess.authors(96))
    sizes: list[int] = []
    evaluate(large, small_dataset(test=4000), workers=0, progress=lambda _: sizes.append(resident()))
    assert len(sizes) == 63
    assert max(sizes) - sizes[2] < 60e6  # libraries and their arenas are warm after a few batches


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """The same images under classes in another order give the same result."""
    opened, split = model(tmp_path / "model"), small_dataset().split("test")
    turned = Split("test", CLASSES[::-1], 2 - split.labels, split.source)
    one, other = evaluate(opened, greys(split)), evaluate(opened, greys(turned))
    assert (one.confusion == other.confusion).all()
    some = Split(
        "test", ("light",), split.labels[split.labels == 2] * 0, split.source, np.flatnonzero(split.labels == 2)
    )
    assert evaluate(opened, greys(some)).confusion[:2].sum() == 0


def test_classes_that_the_model_does_not_know_are_named(tmp_path: Path) -> None:
    split = small_dataset().split("test")
    named = Split("test", ("dark", "gray", "light"), split.labels, split.source)
    with pytest.raises(
        CompoundNetError, match=r"does not know 1 of the 3 classes of these images: .* 'gray'; did you mean grey\?$"
    ):
        match_classes(model(tmp_path / "model"), named)


def test_a_model_without_class_names_is_matched_by_number_or_not_at_all(tmp_path: Path) -> None:
    split, nameless = small_dataset().split("test"), model(tmp_path / "other", labels=None, classes=12)
    numbers = tuple(map(str, range(12)))
    for classes in (numbers, numbers[::-1], ("11", "2", "10")):
        assert match_classes(nameless, Split("test", classes, split.labels, split.source)).tolist() == list(
            map(int, classes)
        )
    for classes in (("dark", "grey", "light"), ("1", "2", "12"), ("1", "01", "2")):
        with pytest.raises(CompoundNetError, match=r"12 classes without names, and the images 3 .* into labels\.txt"):
            match_classes(nameless, Split("test", classes, split.labels, split.source))


def test_images_without_published_classes_cannot_be_counted(tmp_path: Path) -> None:
    split = small_dataset().split("test")
    hidden = Split("test", CLASSES, np.full(30, UNKNOWN), split.source)
    with pytest.raises(CompoundNetError, match="--submission"):
        evaluate(model(tmp_path / "model"), greys(hidden))


def test_a_result_file_is_what_reproduce_reads(tmp_path: Path) -> None:
    found = evaluate(model(tmp_path / "model"), small_dataset())
    (tmp_path / "result.json").write_bytes(found.result_file())
    assert read_results(tmp_path).evaluations == (found.result,)
    assert json.loads((tmp_path / "result.json").read_text())["classes"] == found.fields()["classes"]


def write_devkit(folder: Path) -> dict[int, int]:
    """A meta.mat of the development kit's shape: leaves numbered against the order of their names; and that order."""
    from scipy.io import savemat

    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = [(1000 - place, f"n{place:08d}", 0) for place in range(1000)] + [(1001, "n99999999", 3)]
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data" / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    return {place: 1000 - place for place in range(1000)}


def test_a_submission_has_five_numbers_an_image_best_first(tmp_path: Path) -> None:
    from compoundnet.models.labels import label_set

    numbers = write_devkit(tmp_path / "devkit")
    assert list(class_numbers(tmp_path / "devkit")) == list(numbers.values())
    opened = model(tmp_path / "model", labels=label_set("imagenet-1k"), classes=1000)
    source = small_dataset().split("test").source
    split = Split("test", label_set("imagenet-1k"), np.full(30, UNKNOWN), source)
    content = submission(opened, split, launch(Hardware()), devkit=tmp_path / "devkit", batch=7)
    images, *_ = next(iter(loader(split, opened.preprocess, batch=30)))
    with torch.no_grad():
        best = load(opened)(images).topk(5).indices
    lines = content.decode().splitlines()
    assert lines == [" ".join(str(numbers[int(place)]) for place in row) for row in best]


def test_a_submission_needs_the_development_kit(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"there is no .*meta\.mat; unpack"):
        class_numbers(tmp_path)
    with pytest.raises(CompoundNetError, match="does not have ImageNet's 1,000 classes"):
        submission(model(tmp_path / "m"), small_dataset().split("test"), launch(Hardware()), devkit=tmp_path)


def test_images_are_read_as_for_prediction(tmp_path: Path) -> None:
    """A data set in memory and the model folder's preprocessing meet without a resize between them."""
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    dataset = Dataset("one", {"test": Split("test", CLASSES, np.zeros(1, np.int64), Arrays("x", pixels))})
    assert evaluate(model(tmp_path / "model"), dataset).result.count == 1
