"""embed, as a process: files of features, the nearest images, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import run
from deep_images import write_deep
from PIL import Image
from pyarrow import parquet  # type: ignore[import-untyped]
from small_model import write_small_model

from compoundnet.runtime import Embedder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its session is in the cache already, so that nothing tells of compiling it."""
    folder = write_small_model(tmp_path_factory.mktemp("models") / "small").folder
    Embedder(folder)(Image.new("RGB", (32, 32)))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images and one that cannot be read; `0.png` and `copy.png` are the same."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


def test_features_and_neighbours(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("embed", model, photos, "-o", "features.parquet", "--query", photos / "0.png", cwd=tmp_path)
    assert done.returncode == 1
    assert f"error: {photos / 'broken.png'}: " in done.stderr
    assert "wrote features.parquet: 1,280 features" in done.stderr or "features of each of 5 images" in done.stderr
    assert "1 of 6 images could not be read" in done.stderr
    query, first, *_ = done.stdout.splitlines()
    assert query == str(photos / "0.png")
    assert first.split() == ["1.0000", str(photos / "copy.png")]
    table = parquet.read_table(tmp_path / "features.parquet")
    assert table.column("file").to_pylist() == [str(photos / name) for name in
                                                ("0.png", "1.png", "2.png", "3.png", "copy.png")]  # fmt: skip
    again = run("embed", model, "features.parquet", "--query", photos / "1.png", "--nearest", "2", "--json",
                cwd=tmp_path)  # fmt: skip
    assert (again.returncode, again.stderr) == (0, "")
    document = json.loads(again.stdout)
    assert (document["images"], document["unreadable"], document["output"]) == (5, 0, None)
    (answer,) = document["queries"]
    assert answer["path"] == str(photos / "1.png")
    assert len(answer["nearest"]) == 2 and answer["nearest"][0]["similarity"] < 1
    assert document["notes"] == []


def test_unreadable_and_damaged_images_are_named_in_the_document(model: Path, photos: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes((photos / "0.png").read_bytes()[:2000])
    done = run("embed", model, photos / "broken.png", cut, "--allow-truncated", "--query", photos / "0.png", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["notes"] == [
        f"{photos / 'broken.png'}: is not an image in a format that can be read",
        f"{cut}: is truncated; used as far as it can be decoded",
    ]


def test_what_was_left_out_and_assumed_is_in_the_document_too(model: Path, tmp_path: Path) -> None:
    images = write_deep(tmp_path / "deep", ("dark",), 2)
    (images / "raw.CR2").touch()
    done = run("embed", model, images, "--query", images / "dark" / "1.png", "--json")
    notes = json.loads(done.stdout)["notes"]
    assert notes == done.stderr.splitlines()
    assert "1 .cr2" in notes[0] and "0 to 4095 is assumed" in notes[1]


@pytest.mark.slow
def test_a_query_is_read_with_the_range_of_the_file(model: Path, photos: Path, tmp_path: Path) -> None:
    """Not with one of its own: the images of `light` fill the range, a query from `dark` alone does not."""
    images = write_deep(tmp_path / "deep", count=2)
    for low in images.glob("dark/*.png"):
        pixels = np.asarray(Image.open(low))
        Image.fromarray(np.minimum(pixels, 1000).astype(np.uint16)).save(low)
    query = images / "dark" / "1.png"
    for file, options in (("found.parquet", ()), ("given.parquet", ("--range", "0:5000")), ("features.csv", ())):
        assert run("embed", model, images, *options, "-o", file, cwd=tmp_path).returncode == 0
    direct = json.loads(run("embed", model, images, "--query", query, "--json").stdout)
    for file in ("found.parquet", "given.parquet", "features.csv"):
        done = run("embed", model, file, "--query", query, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        if file == "features.csv":
            assert "does not say the range of its images; give --range" in document["notes"][-1]
        else:
            assert document["notes"] == []
            assert (document["queries"] == direct["queries"]) == (file == "found.parquet")
    # Images of 8 bits have no range, whatever that of the query.
    assert run("embed", model, photos, "-o", "plain.parquet", cwd=tmp_path).returncode == 1
    done = run("embed", model, "plain.parquet", "--query", query, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{photos}"], 2, "give a file for the features, or a --query"),
        (["{photos}", "-o", "features.npz"], 2, "must end in .parquet or .csv"),
        (["{photos}/broken.png", "-o", "features.csv"], 1, "none of the images could be read"),
        (["{photos}", "-o", "."], 2, "must end in .parquet or .csv"),
        (["features.csv", "-o", "other.csv"], 2, "features that `embed` wrote"),
        (["{photos}", "--query", "none.png"], 1, "none.png"),
    ],
)
def test_what_is_refused(
    model: Path, photos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run("embed", model, *(text.format(photos=photos) for text in arguments), cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []
