"""Features: what the classifier reads, computed once for each content of an image, in files, and compared."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet  # type: ignore[import-untyped]
from random_net import random_net, reduced
from small_model import write_small_model
from small_train import small_dataset

import compoundnet as cn
from compoundnet.base import CompoundNetError
from compoundnet.data import Split, open_dataset
from compoundnet.models import ModelFolder, Preprocess, write_folder
from compoundnet.runtime import Embedder, Failure, feature_file, features, find_neighbours, read_features
from compoundnet.runtime.embedding import Embedding


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def all_of(folder: Path) -> Split:
    return open_dataset(folder, test_fraction=0).split("train")


def test_they_are_the_inputs_of_the_classifier(model: ModelFolder) -> None:
    split = small_dataset().split("train")
    found = features(model, split)
    net = cn.load(model)
    with torch.inference_mode():
        images = torch.stack([model.preprocess(split.image(index)) for index in range(len(split))])
        expected = net.forward_head(net.forward_features(images), pre_logits=True).numpy()
    assert found.dtype == np.float32 and found.shape == (60, net.num_features)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_they_are_what_follows_the_pool_where_the_network_has_a_convolution_there(tmp_path: Path) -> None:
    network = reduced("mobilenet-v4-conv-small")
    net = random_net(network)
    model = write_folder(tmp_path / "v4", network, net.state_dict(), Preprocess.authors(64), readme="# v4\n")
    embedder, image = Embedder(model), np.random.default_rng(0).integers(0, 256, (70, 64, 3), dtype=np.uint8)
    assert embedder.width == net.head_hidden_size == 1280
    with torch.inference_mode():
        maps = net.forward_features(model.preprocess(image)[None])
        expected = net.forward_head(maps, pre_logits=True)[0].numpy()
    assert np.abs(embedder(image) - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_resolution_is_free(model: ModelFolder) -> None:
    split = small_dataset().split("test")
    large, own = features(model, split, 64), features(model, split)
    assert large.shape == own.shape
    assert np.abs(large - own).max() > 0.1 * np.abs(own).max()


def forbid_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(embedder: Embedder, pixels: list[object]) -> NDArray[np.float32]:
        assert not pixels, "an image runs again"
        return np.empty((0, embedder.width), np.float32)

    monkeypatch.setattr(Embedder, "_run", run)


def test_an_image_is_known_by_its_content(
    model: ModelFolder, folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features(model, all_of(folder))
    (folder / "b" / "2.png").rename(folder / "a" / "9.png")
    (folder / "b" / "1.png").write_bytes((folder / "a" / "0.png").read_bytes())
    forbid_running(monkeypatch)
    again = features(model, all_of(folder))
    np.testing.assert_array_equal(again, first[[0, 1, 2, 5, 3, 0]])
    with pytest.raises(AssertionError, match="runs again"):  # at another resolution
        features(model, all_of(folder), 64)
    Image.new("RGB", (30, 30)).save(folder / "a" / "0.png")
    with pytest.raises(AssertionError, match="runs again"):
        features(model, all_of(folder))


def test_a_damaged_cache_is_noticed(
    model: ModelFolder, folder: Path, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = features(model, all_of(folder))
    (file,) = (empty_cache / "features").glob("*/*.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(features(model, all_of(folder)), first)
    assert "is damaged; its features are computed again" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_alone(
    model: ModelFolder, folder: Path, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty_cache.mkdir()
    (empty_cache / "features").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(features(model, all_of(folder))).all()
    assert "so these features are computed again next time" in caplog.text


def test_unreadable_images_are_named_and_counted(model: ModelFolder, folder: Path) -> None:
    (folder / "a" / "1.png").write_bytes(b"nothing")
    with pytest.raises(CompoundNetError, match=r"an image cannot be read: a/1\.png"):
        features(model, all_of(folder))
    notes: list[str] = []
    found = features(model, all_of(folder), max_bad=1, notify=notes.append)
    assert [text.split(":")[0] for text in notes] == ["a/1.png"]
    assert np.isnan(found[1]).all() and np.isfinite(np.delete(found, 1, axis=0)).all()


def test_truncated_images_are_named_each_time(model: ModelFolder, folder: Path, empty_cache: Path) -> None:
    path = folder / "a" / "1.png"
    Image.open(path).resize((400, 300)).save(path)
    path.write_bytes(path.read_bytes()[:-5000])
    split = all_of(folder)
    allowing = msgspec.structs.replace(split, reading=msgspec.structs.replace(split.reading, allow_truncated=True))
    for _ in range(2):
        notes: list[str] = []
        features(model, allowing, notify=notes.append)
        assert notes == ["a/1.png: is truncated; used as far as it can be decoded"]
    with pytest.raises(CompoundNetError, match="an image cannot be read"):
        features(model, split)


def test_files_stream(model: ModelFolder, folder: Path) -> None:
    embedder = Embedder(model, batch=4)
    paths = [folder / "a" / "0.png", folder / "none.png", folder / "b" / "2.png"]
    first, missing, last = embedder.many(paths)
    assert isinstance(first, Embedding) and isinstance(last, Embedding) and isinstance(missing, Failure)
    np.testing.assert_array_equal(first.features, embedder(paths[0]))
    np.testing.assert_array_equal(features(model, all_of(folder))[5], last.features)


def test_what_has_no_features(tmp_path: Path) -> None:
    grey = write_small_model(tmp_path / "grey", in_channels=1)
    with pytest.raises(CompoundNetError, match="grey reads 1 channels"):
        Embedder(grey)
    with pytest.raises(CompoundNetError, match="runs on the CPU here"):
        Embedder(write_small_model(tmp_path / "rgb"), backend="onnxruntime", device="cuda")
    with pytest.raises(CompoundNetError, match="float32, bfloat16 or float16, not in auto"):
        Embedder(write_small_model(tmp_path / "narrow"), precision="auto")
    with pytest.raises(CompoundNetError, match="does not run float16 on a CPU"):
        Embedder(write_small_model(tmp_path / "narrower"), precision="float16")


@pytest.mark.parametrize("name", ["features.parquet", "features.csv"])
def test_a_file_of_features_is_read_back(model: ModelFolder, tmp_path: Path, name: str) -> None:
    embedder = Embedder(model)
    rows = np.random.default_rng(0).normal(size=(1500, embedder.width)).astype(np.float32)
    with feature_file(tmp_path / name, embedder.width, embedder.identity()) as write:
        for number, row in enumerate(rows):
            write(f"{number}.png", row)
    read = list(read_features(tmp_path / name, embedder.width, embedder.identity()))
    assert [path.removeprefix("./") for path, _ in read] == [f"{number}.png" for number in range(1500)]
    np.testing.assert_array_equal(np.stack([row for _, row in read]), rows)


def test_a_file_of_other_features_is_refused(model: ModelFolder, tmp_path: Path) -> None:
    embedder = Embedder(model)
    with feature_file(tmp_path / "a.parquet", embedder.width, embedder.identity()) as write:
        write("a.png", np.zeros(embedder.width, np.float32))
    with feature_file(tmp_path / "a.csv", 3, {}) as write:
        write("a.png", np.zeros(3, np.float32))
    other = embedder.identity() | {"preprocess": "another"}
    with pytest.raises(CompoundNetError, match="holds features of other preprocessing than this model's"):
        list(read_features(tmp_path / "a.parquet", embedder.width, other))
    with pytest.raises(CompoundNetError, match="does not hold the"):
        list(read_features(tmp_path / "a.csv", embedder.width, embedder.identity()))
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    with pytest.raises(CompoundNetError, match="is not a Parquet file"):
        list(read_features(tmp_path / "b.parquet", embedder.width, embedder.identity()))
    with pytest.raises(CompoundNetError, match=r"ends in \.parquet or \.csv"), feature_file(tmp_path / "a.npz", 3, {}):
        pass
    with (tmp_path / "a.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["file", "feature_0", "feature_1", "feature_2"]


@pytest.fixture(scope="module")
def written(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the features of 50 images, as features.csv and features.parquet."""
    folder, embedder = tmp_path_factory.mktemp("written"), Embedder(model)
    rows = np.random.default_rng(0).normal(size=(50, embedder.width)).astype(np.float32)
    for name in ("features.csv", "features.parquet"):
        with feature_file(folder / name, embedder.width, embedder.identity()) as write:
            for number, row in enumerate(rows):
                write(f"{number}.png", row)
    return folder


def damage(file: Path, content: bytes, model: ModelFolder) -> str:
    """What is said of a file of that content."""
    file.write_bytes(content)
    embedder = Embedder(model)
    with pytest.raises(CompoundNetError) as caught:
        list(read_features(file, embedder.width, embedder.identity()))
    return str(caught.value).removeprefix(str(file))


def test_a_truncated_csv_of_features_is_told(model: ModelFolder, written: Path, tmp_path: Path) -> None:
    whole, file = (written / "features.csv").read_bytes(), tmp_path / "a.csv"
    truncated = " ends in the middle of a line: it is truncated. Embed the images again"
    assert damage(file, whole[:-3], model) == truncated  # the last number is shorter, and a number still
    assert damage(file, whole[: whole.rindex(b",")], model) == truncated
    width = Embedder(model).width
    short = whole[: whole.rindex(b",")] + b"\n"
    assert damage(file, short, model).startswith(f", line 51: has {width - 1} features, and {width} are expected.")
    assert ", line 52: has 0 features" in damage(file, whole + b"\n", model)
    assert ", line 51: is not what" in damage(file, short[:-1] + b",no number\n", model)
    assert "does not hold the" in damage(file, b"", model)


def test_a_damaged_parquet_file_of_features_is_told(model: ModelFolder, written: Path, tmp_path: Path) -> None:
    whole, file = (written / "features.parquet").read_bytes(), tmp_path / "a.parquet"
    assert "is not a Parquet file" in damage(file, whole[:-3], model)
    assert " is damaged: " in damage(file, whole[:4] + bytes(200) + whole[204:], model)
    table = parquet.read_table(written / "features.parquet")
    for identity, says in ((b"{", "is not a file that"), (b"[]", "is not a file that"), (b"{}", "of other weights")):
        parquet.write_table(table.replace_schema_metadata({b"compoundnet": identity}), file)
        assert says in damage(file, file.read_bytes(), model)
    names = table.select(["file"]).append_column("features", table["file"])
    parquet.write_table(names.replace_schema_metadata(table.schema.metadata), file)
    assert "does not hold the" in damage(file, file.read_bytes(), model)


def test_the_nearest_are_those_of_the_same_direction() -> None:
    images = {"a": [1, 0], "b": [5, 1], "c": [0, 1], "d": [-1, 0], "query": [2, 0]}
    rows = {name: np.array(row, np.float32) for name, row in images.items()}
    found = find_neighbours({"query": rows["query"]}, rows.items(), 3)["query"]
    assert [one.path for one in found] == ["a", "b", "c"]
    assert found[0].similarity == pytest.approx(1) and found[2].similarity == pytest.approx(0)
