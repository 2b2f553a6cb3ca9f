"""Shards and the parts of their predictions: what is a shard, what a part holds, and what a folder refuses."""

from __future__ import annotations

import gc
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_model import write_small_model, write_tuning

from compoundnet import base, models
from compoundnet.base.images import EncodedImage, unread_suffixes
from compoundnet.data.image_shards import ImageShard, ShardError, find_shards
from compoundnet.runtime import BatchPredictor, Prediction, Predictor, predict_shards
from compoundnet.runtime.prediction_parts import Place, process_place, sample_images

parquet = pytest.importorskip("pyarrow.parquet")


def png(seed: int) -> bytes:
    written = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((40, 36)).save(written, "png")
    return written.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tar files of 3 and 2 images, a folder of 2, and a list of 2 with one that is missing."""
    root = tmp_path_factory.mktemp("data") / "shards"
    write_tar(root / "0.tar", [("a.png", png(0)), ("a.cls", b"3"), ("b.png", png(1)), ("broken.png", b"no image")])
    write_tar(root / "more" / "1.tar.gz", [("c.png", png(2)), ("d.png", png(3))])
    (root / "folder" / "below").mkdir(parents=True)
    (root / "folder" / "e.png").write_bytes(png(4))
    (root / "folder" / "below" / "f.png").write_bytes(png(5))
    (root / "list.txt").write_text("folder/e.png\nfolder/missing.png\n")
    (root / "README.txt").write_text("About these shards\n")
    return root


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(write_small_model(tmp_path_factory.mktemp("models") / "small"), threads=1, top=2)


def rows(part: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = parquet.read_table(part).to_pylist()
    return found


def test_what_is_a_shard(shards: Path) -> None:
    notes: list[str] = []
    found = find_shards([shards], notify=notes.append)
    assert [(shard.name, shard.kind) for shard in found] == [
        ("0.tar", "tar"), ("folder", "folder"), ("list.txt", "list"), ("more/1.tar.gz", "tar"),
    ]  # fmt: skip
    assert notes == [f"{shards / 'README.txt'}: is left out, because it has no column of image files"]
    assert [shard.name for shard in find_shards([shards / "0.tar", shards / "folder"])] == ["0.tar", "folder"]
    with pytest.raises(base.CompoundNetError, match=r"two shards are named 0\.tar"):
        find_shards([shards / "0.tar", shards])
    with pytest.raises(base.CompoundNetError, match="takes shards: tar files"):
        find_shards([shards / "folder" / "e.png"])
    with pytest.raises(base.CompoundNetError, match="there is no file or folder"):
        find_shards([shards / "none"])


def test_folders_are_searched_once_and_without_predictions(predictor: Predictor, shards: Path, tmp_path: Path) -> None:
    """Of predictions in the folder of the shards, the column of the images would make each file a list."""
    data = shutil.copytree(shards, tmp_path / "shards")
    (data / "more" / "above").symlink_to(data, target_is_directory=True)
    (data / "twice").symlink_to(data / "more", target_is_directory=True)
    (data / "phone").mkdir()
    (data / "phone" / "1.jxl").write_bytes(b"JPEG XL")
    names = ["0.tar", "folder", "list.txt", "more/1.tar.gz"]
    for out in (data / "results", data):
        counts = predict_shards(predictor, find_shards([data]), out)
        assert (counts.written, counts.images) == (4, 9)
        notes: list[str] = []
        again = find_shards([data], notify=notes.append)
        assert [shard.name for shard in again] == names
        counts = predict_shards(predictor, again, out, resume=True)
        assert (counts.written, counts.kept) == (0, 4)
    assert notes[1:] == [
        f"{data}: left out: 2 links to folders that were read already (more/above, twice)",
        f"{data}: left out: 1 image that cannot be read here (phone/1.jxl): {unread_suffixes()['.jxl']}",
        f"{data}: left out: 8 files of predictions (0.tar.parquet)",
    ]
    given = find_shards([data / "0.tar.parquet"])
    assert [shard.kind for shard in given] == ["list"], "by name it is a list"


def test_a_list_that_cannot_be_read_fails_and_stops_no_other(predictor: Predictor, tmp_path: Path) -> None:
    data = tmp_path / "lists"
    data.mkdir()
    (tmp_path / "a.png").write_bytes(png(1))
    (data / "a.csv").write_text("path,label,split\n../a.png,cat\n")
    (data / "b.csv").write_text("path,label\n../a.png,cat\n")
    (data / "README.txt").write_text("path,label\nis,how,each,line,begins\n")
    said: list[str] = []
    found = find_shards([data], notify=said.append)
    assert said == [f"{data / 'README.txt'}: is left out, because it cannot be read as a list"]
    for number, shards in enumerate((found, find_shards([data / "a.csv", data / "b.csv"]))):
        notes: list[str] = []
        counts = predict_shards(predictor, shards, tmp_path / f"out{number}", notify=notes.append)
        assert (counts.written, counts.failed) == (1, 1)
        assert notes[0].startswith(f"error: {data / 'a.csv'}: row 1 has 2 fields")


def test_a_folder_that_is_emptied_fails_and_stops_no_other(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(png(1))
    found = find_shards([tmp_path / "data"])
    (tmp_path / "data" / "a" / "1.png").unlink()
    notes: list[str] = []
    counts = predict_shards(predictor, found, tmp_path / "out", notify=notes.append)
    assert (counts.written, counts.failed) == (1, 1)
    assert "a: there are no images in this folder or below it; no part is written for it" in notes[0]


def test_images_of_a_tar_file_that_cannot_be_read_here_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("2.jxl", b"JPEG XL"), ("3.JXL", b"JPEG XL"), ("4.txt", b"3")])
    notes: list[str] = []
    assert len(list(find_shards([tmp_path / "a.tar"])[0].images(notify=notes.append))) == 1
    advice = unread_suffixes()[".jxl"]
    assert notes == [
        f"{tmp_path / 'a.tar'}: 2 images are left out, because they cannot be read here: 2 .jxl ({advice})"
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_tar_file_is_read_without_keeping_its_headers(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / name, [(f"{number}.png", b"image") for number in range(200)])
    images = find_shards([tmp_path / name])[0].images()
    for number in range(199):
        assert isinstance(image := next(images), EncodedImage)
        assert image.name.endswith(f"/{number}.png")
    assert sum(issubclass(type(it), tarfile.TarInfo) for it in gc.get_objects()) < 10
    assert len(list(images)) == 1


def test_each_shard_gets_a_part_with_a_row_for_each_image(shards: Path, predictor: Predictor, tmp_path: Path) -> None:
    found = find_shards([shards])
    counts = predict_shards(predictor, found, tmp_path / "out")
    assert (counts.written, counts.kept, counts.failed, counts.images, counts.failures) == (4, 0, 0, 9, 2)
    tar = rows(tmp_path / "out" / "0.tar.parquet")
    assert [row["file"] for row in tar] == [f"{shards / '0.tar'}/{name}.png" for name in ("a", "b", "broken")]
    assert tar[2]["error"] == "is not an image in a format that can be read"
    assert rows(tmp_path / "out" / "list.txt.parquet")[1]["error"] == "cannot be read: No such file or directory"
    (one,) = [row for row in rows(tmp_path / "out" / "folder.parquet") if str(row["file"]).endswith("folder/e.png")]
    expected = predictor(shards / "folder" / "e.png")
    assert one["prediction"] == expected.label
    assert one["probability_1"] == pytest.approx(expected.predictions[0].probability)
    assert len(rows(tmp_path / "out" / "more" / "1.tar.gz.parquet")) == 2


def test_resume_predicts_what_has_no_part_or_has_changed(predictor: Predictor, shards: Path, tmp_path: Path) -> None:
    data = shutil.copytree(shards, tmp_path / "shards")
    out = tmp_path / "out"
    predict_shards(predictor, find_shards([data])[:2], out)
    with pytest.raises(base.CompoundNetError, match=r"holds predictions of 2 of these shards already \(0\.tar\)"):
        predict_shards(predictor, find_shards([data]), out)
    write_tar(data / "0.tar", [("a.png", png(0))] * 30)
    notes: list[str] = []
    counts = predict_shards(predictor, find_shards([data]), out, resume=True, notify=notes.append)
    assert (counts.written, counts.kept) == (3, 1)
    assert notes == [f"{data / '0.tar'}: has changed since it was predicted, and is predicted again"]
    assert len(rows(out / "0.tar.parquet")) == 30


def test_a_folder_is_of_one_model_and_its_settings(predictor: Predictor, shards: Path, tmp_path: Path) -> None:
    predict_shards(predictor, find_shards([shards])[:1], tmp_path / "out")
    other = Predictor(predictor.model, threads=1, top=3)
    with pytest.raises(base.CompoundNetError, match="holds predictions that differ in top: 2, now 3; give the same"):
        predict_shards(other, find_shards([shards])[1:], tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"labels": [f"sort {index}" for index in range(7)]}, "class names"),
        ({"postprocess": models.Postprocess(1.5)}, "postprocess"),
        ({"postprocess": models.Postprocess(function="sigmoid", thresholds=(0.3,) * 7)}, "postprocess"),
    ],
)
def test_the_same_weights_with_other_labels_are_another_model(
    changed: dict[str, Any], what: str, predictor: Predictor, shards: Path, tmp_path: Path
) -> None:
    """Calibration, thresholds and names are files beside the weights."""
    predict_shards(predictor, find_shards([shards])[:1], tmp_path / "out")
    other = Predictor(write_small_model(tmp_path / "small", **changed), threads=1, top=2)
    assert other.session.identity == predictor.session.identity
    with pytest.raises(base.CompoundNetError, match=f"holds predictions that differ in {what}; give the same"):
        predict_shards(other, find_shards([shards])[1:], tmp_path / "out", resume=True)


@pytest.mark.parametrize("cut", ["inside an image", "between images"])
def test_a_tar_file_that_was_cut_has_no_part(cut: str, predictor: Predictor, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    write_tar(whole, [(f"{number}.png", png(number)) for number in range(4)])
    with tarfile.open(whole) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 10 if cut == "inside an image" else last.offset
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:end])
    notes: list[str] = []
    counts = predict_shards(predictor, find_shards([tmp_path / "cut.tar"]), tmp_path / "out", notify=notes.append)
    assert (counts.written, counts.failed) == (0, 1)
    assert "cut.tar: is truncated or damaged after 3 images" in notes[0]
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "predictions.json"]
    used = list(ImageShard("cut.tar", tmp_path / "cut.tar", "tar").images(allow_truncated=True))
    assert len(used) == 3


def test_pipes_and_devices_are_no_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.png", png(1))])
    os.mkfifo(tmp_path / "b.tar")
    os.mkfifo(tmp_path / "c.csv")
    (tmp_path / "d.tgz").symlink_to("/dev/zero")
    said: list[str] = []
    assert [shard.name for shard in find_shards([tmp_path], notify=said.append)] == ["a.tar"]
    assert [line.partition("is left out: ")[2] for line in said] == [
        "it is a pipe, not a file",
        "it is a pipe, not a file",
        "it is a device, not a file",
    ]
    for name, kind in (("b.tar", "a pipe"), ("c.csv", "a pipe"), ("d.tgz", "a device")):
        with pytest.raises(base.CompoundNetError, match=f"{name}: is {kind}, not a file"):
            find_shards([tmp_path / name])


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_terabytes_is_not_read(kind: bytes, name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "plain.tar", [("1.png", png(1))])
    first = (tmp_path / "plain.tar").read_bytes()[: 512 + -(-len(png(1)) // 512) * 512]
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 40
    content = first + header.tobuf(tarfile.GNU_FORMAT) + b"9" * 512
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.tgz" else content)
    with pytest.raises(ShardError, match=r"damaged after 1 images \(a header of 1100 GB\)"):
        list(find_shards([tmp_path / name])[0].images())


def test_a_shard_that_goes_away_is_an_error_of_the_shard(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="cannot be read: No such file"):
        ImageShard("gone.tar", tmp_path / "gone.tar", "tar").fingerprint()


def test_a_sample_is_of_all_shards_that_can_be_read(tmp_path: Path) -> None:
    """Of tar files the first images, until one is damaged; of folders all."""
    for shard in range(4):
        write_tar(tmp_path / f"{shard}.tar", [(f"{shard}{image}.png", png(image)) for image in range(3)])
    (tmp_path / "0.tar").write_bytes(b"no tar file")
    whole = (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as tar:
        (tmp_path / "1.tar").write_bytes(whole[: tar.getmembers()[1].offset_data + 5])
    (tmp_path / "4").mkdir()
    for image in range(3):
        (tmp_path / "4" / f"4{image}.png").write_bytes(png(image))
    found = sample_images(find_shards([tmp_path]), 10)
    names = [Path(image.name if isinstance(image, EncodedImage) else image).stem for image in found]
    assert names == ["10", "20", "21", "30", "31", "40", "41", "42"]


def test_processes_share_the_shards(monkeypatch: pytest.MonkeyPatch, shards: Path) -> None:
    for name in ("RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert process_place() == Place()
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script, which is not one of the tasks
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert process_place().world == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert (process_place().rank, process_place().world, process_place().launcher) == (2, 4, "SLURM")
    for name, value in {"RANK": 1, "WORLD_SIZE": 3, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    place = process_place()
    assert (place.rank, place.world, place.local_world, place.launcher) == (1, 3, 3, "torchrun")
    found = find_shards([shards])
    shared = [Place(rank, 3).share(found) for rank in range(3)]
    assert sorted(shard.name for share in shared for shard in share) == sorted(shard.name for shard in found)


def test_a_batch_of_columns(predictor: Predictor) -> None:
    batches = BatchPredictor(predictor.model, threads=1, top=1, name="key")
    found = batches({"bytes": np.array([png(0), b"none"], object), "key": np.array(["a", "b"]), "id": np.arange(2)})
    assert set(found) == {"key", "id", "prediction", "class_1", "probability_1", "error"}
    (expected,) = predictor.many([EncodedImage("a", png(0))])
    assert isinstance(expected, Prediction)
    assert found["prediction"].tolist() == [expected.label, ""]
    assert np.isnan(found["probability_1"]).tolist() == [False, True]
    assert found["error"].tolist() == ["", "is not an image in a format that can be read"]
    with pytest.raises(base.CompoundNetError, match="the batch has no column 'bytes', only 'path'"):
        batches({"path": np.array(["a"])})
    with pytest.raises(base.CompoundNetError, match="must hold the content of image files, pixels or paths, got int"):
        batches({"bytes": np.array([3], object), "key": np.array(["a"])})


def test_batches_of_a_tuned_model_run_in_float32_unless_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The processes of a cluster would choose by timings, each its own."""
    model = write_small_model(tmp_path / "tuned")
    write_tuning(model)
    batches = BatchPredictor(model, threads=1)
    assert (batches.predictor.session.precision, batches.predictor.session.choice) == ("float32", None)
    assert "tuned was tuned, but runs in float32 here" in caplog.text
