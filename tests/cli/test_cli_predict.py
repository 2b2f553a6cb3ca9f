"""predict, as a process: what it prints, where, and its exit codes."""

import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from small_model import write_small_model

import compoundnet as cn
from compoundnet.models import Postprocess


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its session is in the cache already, so that nothing tells of compiling it."""
    folder = write_small_model(tmp_path_factory.mktemp("models") / "small").folder
    cn.runtime.session(folder, threads=1)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `a.png`, `b/c.jpg` and the broken `b/broken.png`."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (folder / "b").mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[::-1]).save(folder / "b" / "c.jpg")
    (folder / "b" / "broken.png").write_bytes((folder / "a.png").read_bytes()[:2000])
    return folder


def test_the_classes_of_one_picture(model: Path, photos: Path) -> None:
    done = run("predict", model, photos / "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == str(photos / "a.png")
    assert len(lines) == 5
    rows = [re.fullmatch(r"\s+([\d.]+)%\s+(\d)\s+class \2", line) for line in lines]
    assert all(rows)
    shares = [float(row[1]) for row in rows if row]
    assert shares == sorted(shares, reverse=True)


def test_the_first_use_compiles_and_only_the_cache_is_written(model: Path, photos: Path, tmp_path: Path) -> None:
    """Not ONNX Runtime's device id in the home folder either."""
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "COMPOUNDNET_CACHE")}
    for place in places.values():
        place.mkdir()
    paths = {name: str(place) for name, place in places.items()}
    first, second = (run("predict", model, photos / "a.png", cwd=tmp_path, fault=None, **paths) for _ in range(2))
    assert first.returncode == 0
    assert first.stderr.splitlines() == [f"{model.name}: compiling for ONNX Runtime; this is done once and kept"]
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    written = {name for name, place in places.items() if list(place.rglob("*"))}
    assert written == {"COMPOUNDNET_CACHE"}


def test_one_unreadable_file_does_not_stop_the_others(model: Path, photos: Path) -> None:
    done = run("predict", model, photos, photos / "missing.png", photos / "a.png", "--top", "1")
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert told == [str(photos / "a.png"), str(photos / "b" / "c.jpg"), str(photos / "a.png")]
    broken, missing, summary = done.stderr.splitlines()
    assert broken.startswith(f"error: {photos / 'b' / 'broken.png'}: cannot be decoded: ")
    assert missing == f"error: {photos / 'missing.png'}: cannot be read: No such file or directory"
    assert summary == "2 of 5 images could not be read"


def test_json_is_one_document_in_input_order(model: Path, photos: Path) -> None:
    done = run("predict", model, photos / "b" / "c.jpg", photos, "--json", "--top", "2")
    assert done.returncode == 1
    documents = json.loads(done.stdout)
    names = ["b/c.jpg", "a.png", "b/broken.png", "b/c.jpg"]
    assert [document["path"] for document in documents] == [str(photos / name) for name in names]
    assert documents[2].keys() == {"path", "error"}
    assert documents[0] == documents[3]
    for found in documents[0]["predictions"]:
        assert found.keys() == {"index", "label", "probability"}
        assert found["label"] == f"class {found['index']}"
        assert 0 < found["probability"] < 1
    assert len(documents[0]["predictions"]) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "stdout", "count", "shown"),
    [
        (Terminal, io.StringIO, 30, True),
        (Terminal, io.StringIO, 3, False),  # done before it could be read
        (Terminal, Terminal, 30, False),  # the results themselves scroll by
        (io.StringIO, io.StringIO, 30, False),
    ],
)
def test_a_progress_bar_on_a_terminal(
    stderr: type[io.StringIO], stdout: type[io.StringIO], count: int, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compoundnet.cli.progress import track

    monkeypatch.setenv("TERM", "xterm")
    errors, results = stderr(), stdout()
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "stdout", results)
    assert list(track(iter(range(count)), "predicting", count)) == list(range(count))
    assert ("predicting" in errors.getvalue()) == shown
    assert results.getvalue() == ""


def test_a_name_in_bytes_that_are_no_text(model: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / name).write_bytes((photos / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    done = run("predict", model, tmp_path)
    assert done.returncode == 0
    assert "caf�.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["efficientnet-lit0", "a.png"], 1, "error: there is no model named 'efficientnet-lit0'; did you mean"),
        (["MODEL", "empty"], 1, "error: empty: there are no images in this folder or below it"),
        (["MODEL", "a.png", "--top", "8"], 1, "error: top must be 1 to 7, the classes of the model, got 8"),
        (["MODEL", "a.png", "--top", "0"], 2, "greater than or equal to 1"),
        (["MODEL"], 2, "Missing argument"),
        (["a.png", "a.png"], 1, "a.png is a file, not a model folder"),
    ],
)
def test_bad_input(model: Path, photos: Path, arguments: list[str], code: int, message: str) -> None:
    (photos / "empty").mkdir(exist_ok=True)
    done = run("predict", *(str(model) if word == "MODEL" else word for word in arguments), cwd=photos)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_have_a_row_for_each_image(model: Path, photos: Path, tmp_path: Path) -> None:
    files: list[str | Path] = ["--csv", tmp_path / "p.csv", "--parquet", tmp_path / "p.parquet"]
    done = run("predict", model, photos, "--top", "2", *files)
    assert done.returncode == 1
    assert done.stdout == ""
    error, first, second, summary = done.stderr.splitlines()
    assert error.startswith(f"error: {photos / 'b' / 'broken.png'}")
    assert first == f"wrote {tmp_path / 'p.csv'}: a row for each of 3 images"
    assert second == f"wrote {tmp_path / 'p.parquet'}: a row for each of 3 images"
    assert summary == "1 of 3 images could not be read"
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "prediction", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert [row["file"] for row in rows] == [str(photos / name) for name in ("a.png", "b/broken.png", "b/c.jpg")]
    assert rows[1]["error"].startswith("cannot be decoded") and not rows[1]["prediction"]
    expected = json.loads(run("predict", model, photos / "a.png", "--json").stdout)[0]["predictions"]
    assert (rows[0]["prediction"], rows[0]["class_2"]) == (expected[0]["label"], expected[1]["label"])
    assert float(rows[0]["probability_1"]) == pytest.approx(expected[0]["probability"], rel=1e-6)
    parquet = pytest.importorskip("pyarrow.parquet")
    kept = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["file"] for row in kept] == [row["file"] for row in rows]
    assert kept[1]["probability_1"] is None


def test_json_is_printed_beside_a_table(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("predict", model, photos / "a.png", "--json", "--csv", tmp_path / "p.csv")
    assert len(json.loads(done.stdout)) == 1
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2


def test_unlikely_images_are_unknown_and_counted(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("predict", model, photos / "a.png", "--unknown-below", "0.9", "--csv", tmp_path / "p.csv", "--json")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "1 of 1 images are unknown: no class reaches 0.9"
    assert json.loads(done.stdout)[0]["unknown"] is True
    assert (tmp_path / "p.csv").read_text().splitlines()[1].split(",")[1] == "unknown"
    plain = run("predict", model, photos / "a.png", "--unknown-below", "0.9")
    assert plain.stdout.splitlines()[0] == f"{photos / 'a.png'}: unknown"
    known = run("predict", model, photos / "a.png", "--unknown-below", "0.01", "--json")
    assert "unknown" not in json.loads(known.stdout)[0]
    assert known.stderr.splitlines()[-1] == "0 of 1 images are unknown: no class reaches 0.01"
    assert run("predict", model, photos / "a.png", "--unknown-below", "1.5").returncode == 2


def test_a_table_that_cannot_be_written_is_refused_before_the_work(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "no").touch()
    done = run("predict", model, photos, "--csv", tmp_path / "no" / "p.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path / 'no'} is not a folder" in done.stderr


def test_a_model_of_several_labels_prints_those_of_the_image_first(photos: Path, tmp_path: Path) -> None:
    how = Postprocess(1.0, "sigmoid", (0.99, 0.01, 0.99, 0.01))
    folder = write_small_model(tmp_path / "tags", classes=4, postprocess=how).folder
    cn.runtime.session(folder, threads=1)
    done = run("predict", folder, photos / "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first in (f"{photos / 'a.png'}: class 1, class 3", f"{photos / 'a.png'}: class 3, class 1")
    assert len(lines) == 4
    assert [line.endswith("(below its threshold, 99.00%)") for line in lines] == [False, False, True, True]
    (told,) = json.loads(run("predict", folder, photos / "a.png", "--json").stdout)
    assert sorted(told["labels"]) == ["class 1", "class 3"]
    assert {one["index"]: one["threshold"] for one in told["predictions"]} == {0: 0.99, 1: 0.01, 2: 0.99, 3: 0.01}
    done = run("predict", folder, photos / "a.png", "--unknown-below", "0.5")
    assert done.returncode == 1
    assert "unknown_below is for models that give" in done.stderr
