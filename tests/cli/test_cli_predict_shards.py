"""predict -o FOLDER, as processes: kill -9 and --resume, several processes, a full disk, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from command import run
from deep_images import RANGE, write_deep
from PIL import Image
from small_model import write_small_model, write_tuning

import compoundnet as cn
from compoundnet.cli.predict_shards import _device
from compoundnet.runtime.prediction_parts import Place

parquet = pytest.importorskip("pyarrow.parquet")
SHARDS, IMAGES = 6, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_model(tmp_path_factory.mktemp("models") / "small").folder
    cn.runtime.session(folder, threads=1)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    numbers = np.random.default_rng(0)
    for shard in range(SHARDS):
        (root / f"s{shard}").mkdir()
        for image in range(IMAGES):
            pixels = numbers.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"s{shard}" / f"{image}.png")
    return root


def of_two(rank: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`compoundnet ARGUMENTS` as one of two processes of torchrun."""
    return run(*arguments, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")


def files(folder: Path) -> list[str]:
    return sorted(row["file"] for part in folder.glob("*.parquet") for row in parquet.read_table(part).to_pylist())


def test_processes_write_each_image_once(model: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for rank in ("0", "1"):
        done = of_two(rank, "predict", model, shards, "-o", out, "--threads", "1", "--json")
        assert done.returncode == 0, done.stderr
        assert f"process {rank} of 2 (torchrun): 3 of 6 shards" in done.stderr
        found = json.loads(done.stdout)
        assert (found["written"], found["images"], found["precision"]) == (3, 3 * IMAGES, "float32")
    assert files(tmp_path / "out") == sorted(map(str, shards.rglob("*.png")))
    again = run("predict", model, shards, "-o", tmp_path / "out", "--threads", "1")
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'out'} holds predictions of 6 of these shards")
    refused = of_two("0", "predict", model, shards, "-o", out, "--precision", "auto", "--resume")
    assert "torchrun started 2 processes, which might choose different precisions" in refused.stderr


def test_processes_need_a_precision_of_a_tuned_model_by_name(shards: Path, tmp_path: Path) -> None:
    """Each would choose by its own timings."""
    tuned, out = write_small_model(tmp_path / "tuned"), tmp_path / "out"
    write_tuning(tuned)
    refused = of_two("0", "predict", tuned.folder, shards, "-o", out, "--threads", "1")
    assert (refused.returncode, out.exists()) == (1, False)
    assert "tuned was tuned, and torchrun started 2 processes" in refused.stderr
    assert "give --precision a name, such as float32" in refused.stderr
    done = of_two("0", "predict", tuned.folder, shards, "-o", out, "--threads", "1", "--precision", "float32")
    assert done.returncode == 0, done.stderr


def test_what_is_left_out_is_said_in_json_too(model: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.csv").write_text("label\ncat\n")
    with tarfile.open(tmp_path / "tars" / "1.tar", "w") as tar:
        tar.add(shards / "s0" / "0.png", "0.png")
        tar.add(shards / "s0" / "0.png", "0.jxl")
    done = run("predict", model, tmp_path / "tars", "-o", tmp_path / "out", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["notes"]
    assert first == f"{tmp_path / 'tars' / 'a.csv'}: is left out, because it has no column of image files"
    assert second.startswith(f"{tmp_path / 'tars' / '1.tar'}: 1 image is left out, because it cannot be read here")
    assert first in done.stderr
    assert second in done.stderr


def test_auto_compares_on_images_of_all_shards_but_damaged_ones(model: Path, tmp_path: Path) -> None:
    """A damaged shard is reported when it is predicted, and stops no other."""
    given, out = tmp_path / "tars", tmp_path / "out"
    given.mkdir()
    (given / "0.tar").write_bytes(b"no tar file")
    with tarfile.open(given / "1.tar", "w") as tar:
        image = tmp_path / "a.png"
        Image.new("RGB", (40, 40)).save(image)
        tar.add(image, "a.png")
    done = run("predict", model, given, "-o", out, "--threads", "1", "--precision", "auto", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["written"], found["failed"]) == (1, 1)
    assert files(out) == [f"{given / '1.tar'}/a.png"]


@pytest.mark.parametrize(("visible", "device"), [(0, "cuda"), (1, "cuda:0"), (2, "cuda:1"), (8, "cuda:3")])
def test_a_process_takes_a_gpu_that_it_sees(visible: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `srun --gpus-per-task=1` it sees its own alone; torch names one that is not there."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: visible)
    assert _device("cuda", Place(3, 4, 3, None, "SLURM")) == device
    assert _device("cpu", Place(3, 4, 3, None, "SLURM")) == "cpu"
    assert _device("cuda", Place()) == "cuda"


def test_no_threads_are_not_all_threads(model: Path, shards: Path, tmp_path: Path) -> None:
    refused = run("predict", model, shards, "-o", tmp_path / "out", "--threads", "0")
    assert refused.returncode == 1
    assert "error: threads must be 1 to" in refused.stderr


@pytest.mark.parametrize("kind", [pytest.param("folders", marks=pytest.mark.slow), "tar files"])
def test_shards_of_12_bit_images_have_one_range_that_is_said(kind: str, model: Path, tmp_path: Path) -> None:
    """The same one, and so the same classes, as without shards, in each of several processes."""
    images, given = write_deep(tmp_path / "deep"), tmp_path / "deep"
    if kind == "tar files":
        given = tmp_path / "tars"
        given.mkdir()
        for shard in sorted(images.iterdir()):
            with tarfile.open(given / f"{shard.name}.tar", "w") as tar:
                for file in sorted(shard.iterdir()):
                    tar.add(file, f"{shard.name}/{file.name}")
    said = "24 of 24 images examined have more than 8 bits a value and do not state their range: 0 to 4095 is assumed"
    for rank in ("0", "1"):
        done = of_two(rank, "predict", model, given, "-o", tmp_path / "out", "--threads", "1", "--json")
        assert done.returncode == 0, done.stderr
        assert [note.startswith(said) for note in json.loads(done.stdout)["notes"]] == [True]
        assert done.stderr.count(said) == (rank == "0")
    single = json.loads(run("predict", model, images, "--threads", "1", "--json").stdout)
    expected = {Path(one["path"]).relative_to(images): one["predictions"][0]["probability"] for one in single}
    rows = [row for part in (tmp_path / "out").glob("*.parquet") for row in parquet.read_table(part).to_pylist()]
    found = {Path(*Path(row["file"]).parts[-2:]): row["probability_1"] for row in rows}
    assert found == pytest.approx(expected)
    given_range = run("predict", model, given, "-o", tmp_path / "given", "--threads", "1", "--range", "0:4095")
    assert "their range" not in given_range.stderr
    written = json.loads((tmp_path / "given" / "predictions.json").read_text())
    assert cn.models.Preprocess.loads(written["preprocess"]).range == RANGE


def test_kill_9_loses_and_repeats_no_image(model: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "compoundnet",
        "predict",
        str(model),
        str(shards),
        "-o",
        str(out),
        "--threads",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(out.glob("*.parquet")):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    before = {part: part.stat().st_mtime_ns for part in out.glob("*.parquet")}
    done = run("predict", model, shards, "-o", out, "--resume", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == len(before)
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert files(out) == sorted(map(str, shards.rglob("*.png")))
    assert {path.name for path in out.iterdir()} == {f"s{n}.parquet" for n in range(SHARDS)} | {"predictions.json"}


@pytest.mark.skipif(not Path("/dev/full").exists() or not hasattr(os, "mkfifo"), reason="needs Linux")
def test_a_folder_that_cannot_be_written_is_one_line(model: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("predict", model, shards, "-o", tmp_path / "file" / "out", "--threads", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'file' / 'out'}: cannot be written")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "goes with -o FOLDER"),
        (["-o", "out", "--csv", "a.csv"], "leave out --csv and --parquet"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str, model: Path, shards: Path) -> None:
    done = run("predict", model, shards, *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_torchrun_starts_them(model: Path, shards: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "compoundnet",
        "predict", model, shards, "-o", tmp_path / "out",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == sorted(map(str, shards.rglob("*.png")))


@pytest.mark.slow
def test_ray_maps_batches_on_two_nodes(model: Path, shards: Path) -> None:
    pytest.importorskip("ray")
    script = Path(__file__).parents[1] / "support" / "ray_once.py"
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(shards)], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nodes"] == 2
    assert found["used_nodes"] == 2
    predictor = cn.Predictor(model, threads=1, top=1)
    expected = {str(path): predictor(path).label for path in shards.rglob("*.png")}
    assert found["predictions"] == expected
