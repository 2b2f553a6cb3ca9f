"""`train` and `evaluate` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run
from PIL import Image
from safetensors.torch import load_file
from small_train import class_folders, small_network

from compoundnet.models import read_folder

SETTINGS = ["epochs=2", "batch=4", "lr=0.01", "minival=0"]


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, a network's file, and the model that `train` made of them."""
    folder = tmp_path_factory.mktemp("train")
    class_folders(folder / "data", {"dark": 20, "light": 20})
    small_network().save(folder / "small.toml")
    done = run("train", "data", "--network", "./small.toml", *settings(*SETTINGS), "-o", "model", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "There is no test split, so 8 of 40 images were held out for it" in done.stderr
    assert "epoch 2: step 16 of 16" in done.stderr and "images/s" in done.stderr and "left" in done.stderr
    assert "test: top-1" in done.stdout
    return folder


def test_the_model_is_what_predict_and_evaluate_take(trained: Path) -> None:
    picture = trained / "data" / "dark" / "0.png"
    done = run("predict", "./model", picture, "--json", cwd=trained)
    assert {found["label"] for found in json.loads(done.stdout)[0]["predictions"]} == {"dark", "light"}
    done = run(
        "evaluate", "./model", "data", "--json", "-o", "result.json", "--confusion", "confusion.png", cwd=trained
    )
    assert done.returncode == 0, done.stderr
    printed, written = json.loads(done.stdout), json.loads((trained / "result.json").read_text())
    assert (printed["count"], printed["dataset"], printed["network"]) == (8, "data", "small")
    assert written["top1"] == printed["top1"] and [row["count"] for row in written["classes"]] == [4, 4]
    with Image.open(trained / "confusion.png") as picture_of_it:
        assert picture_of_it.format == "PNG"


def test_evaluate_prints_a_row_a_class(trained: Path) -> None:
    done = run("evaluate", "./model", "data", "--split", "train", cwd=trained)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1] for line in lines if line and line[0] in ("dark", "light")][:2] == ["16", "16"]
    assert "(train, 32 images): top-1" in done.stdout


@pytest.mark.slow
def test_the_test_pictures_do_not_depend_on_the_seed_of_training(trained: Path) -> None:
    arguments = ["train", "data", "--network", "./small.toml", *settings(*SETTINGS, "seed=5"), "-o", "seed5", "--json"]
    document = json.loads(run(*arguments, cwd=trained).stdout)
    assert (document["network"], document["num_classes"]) == ("small", 2)
    assert (document["recipe"]["name"], document["recipe"]["seed"], document["recipe"]["lr"]) == ("quick", 5, 0.01)
    assert document["notes"][-1].startswith("probabilities are not calibrated: no training images were held out")
    measured = document["result"]
    again = json.loads(run("evaluate", "./seed5", "data", "--json", cwd=trained).stdout)
    assert (again["top1"], again["count"]) == (measured["top1"], measured["count"])
    told = run("train", "data", "--network", "./small.toml", *settings(*SETTINGS, "seed=5"), "-o", "seed5", "--resume",
               cwd=trained)  # fmt: skip
    assert "20% of each class, seed 0" in told.stderr


def test_evaluate_takes_all_of_an_undivided_folder(trained: Path) -> None:
    done = run("evaluate", "./model", "data", "--split", "all", "--json", cwd=trained)
    assert (json.loads(done.stdout)["count"], json.loads(done.stdout)["split"]) == (40, "all")
    divided = run("evaluate", "./model", "digits", "--split", "all", cwd=trained)
    assert divided.returncode == 1 and "give one of them as --split" in divided.stderr


@pytest.mark.slow
def test_compiled_training_writes_plain_names(trained: Path) -> None:
    arguments = ["train", "data", "--network", "./small.toml", *settings(*SETTINGS), "--compile"]
    # torch reads CXX when it is imported, so that this needs a new interpreter, which PYTHONPATH gets.
    without = {"CXX": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(trained / "cache"), "PYTHONPATH": ""}
    missing = run(*arguments, "-o", "none", cwd=trained, fault=None, **without)
    assert missing.returncode == 1
    assert "needs a C++ compiler" in missing.stderr and "Traceback" not in missing.stderr
    done = run(*arguments, "-o", "compiled", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert read_folder(trained / "compiled").network == read_folder(trained / "model").network
    plain, compiled = (load_file(trained / name / "weights.safetensors") for name in ("model", "compiled"))
    assert plain.keys() == compiled.keys()


@pytest.mark.slow
def test_two_processes_are_started_and_count_the_same(trained: Path) -> None:
    one = run("evaluate", "./model", "data", "--json", cwd=trained)
    two = run("evaluate", "./model", "data", "--json", "--devices", "2", "--accelerator", "cpu", cwd=trained)
    assert two.returncode == 0, two.stderr
    documents = [json.loads(done.stdout) for done in (one, two)]
    for document in documents:
        del document["measured_at"]
    assert documents[0] == documents[1]


def test_resume_of_a_finished_run_and_a_second_run(trained: Path) -> None:
    arguments = ["train", "data", "--network", "./small.toml", "-o", "model"]
    again = run(*arguments, *settings(*SETTINGS), cwd=trained)
    assert again.returncode == 1 and "model exists already" in again.stderr
    other = run(*arguments, *settings(*SETTINGS, "lr=0.02"), "--resume", cwd=trained)
    assert other.returncode == 1
    assert "a finished run, which cannot continue with lr 0.02 instead of 0.01" in other.stderr
    same = run(*arguments, *settings(*SETTINGS), "--resume", "--json", cwd=trained)
    assert len(json.loads(same.stdout)["epochs"]) == 2


def test_a_teacher_is_a_model_that_knows_the_classes(trained: Path) -> None:
    arguments = ["train", "data", "--network", "./small.toml", *settings(*SETTINGS, "mixup=0.2", "erase=0.25")]
    done = run(*arguments, "--teacher", "./model", "--teacher-features", "-o", "student", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "training small from scratch, taught by model, on 32 images" in done.stderr
    document = json.loads(done.stdout)
    assert (document["summary"]["teacher"], document["recipe"]["mixup"]) == ("model", 0.2)
    assert document["recipe"]["distillation"]["features"] == 20
    class_folders(trained / "others", {"dark": 5, "bright": 5})
    other = run("train", "others", "--network", "./small.toml", "--teacher", "./model", "-o", "no", cwd=trained)
    assert other.returncode == 1 and "as a teacher, model does not know 1 of the 2 classes" in other.stderr
    for options in (["--teacher-features"], ["--teacher", "./model", "--sweep"]):
        assert run(*arguments, *options, "-o", "no", cwd=trained).returncode == 2


def test_a_sweep_does_not_begin_where_its_model_could_not_be_written(trained: Path) -> None:
    arguments = ["train", "data", "--network", "./small.toml", *settings(*SETTINGS)]
    done = run(*arguments, "--sweep", "-o", "model", cwd=trained)
    assert done.returncode == 1 and "model exists already" in done.stderr
    assert not (trained / "model.run" / "sweep").exists()
    alone = run(*arguments, "--sweep-workers", "2", "-o", "other", cwd=trained)
    assert alone.returncode == 2 and "is for --sweep" in alone.stderr


def test_recipes_are_listed() -> None:
    done = run("train", "--list-recipes", "--json")
    listed = {recipe["name"]: recipe for recipe in json.loads(done.stdout)}
    assert list(listed) == ["efficientnetv2", "finetune", "imagenet", "kornblith", "probe", "proxy", "quick", "ra4"]
    assert listed["imagenet"]["optimizer"] == {"kind": "rmsprop", "decay": 0.9, "momentum": 0.9, "eps": 0.001}
    assert "kornblith" in run("train", "--list-recipes").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "give the data to train on"),
        (["train", "digits"], 1, "give either --network NAME"),
        (["train", "digits", "--network", "efficientnet-b0", "--from", "efficientnet-lite0"], 1, "give either"),
        (["train", "digits", "--network", "efficientnet-b0", "--recipe", "quik"], 1, "no recipe named 'quik'"),
        (["train", "digits", "--network", "efficientnet-b0", "--set", "lrr=1"], 1, "no field 'lrr'"),
        (["train", "nowhere", "--network", "efficientnet-b0"], 1, "no file or folder nowhere"),
        (["train", "imagenet:/nowhere", "--network", "efficientnet-b0"], 1, "Register at image-net.org"),
        (["evaluate", "nowhere", "digits"], 1, "nowhere"),
        (["evaluate", "nowhere", "digits", "-o", "/dev/null/result.json"], 1, "/dev/null is not a folder"),
        (
            ["evaluate", "nowhere", "imagenet-test:.", "--submission", "a", "-o", "b", "--csv", "c"],
            2,
            "leave out --output, --csv",
        ),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_empty_and_a_single_class_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "one", {"only": 3})
    done = run("train", "one", "--network", "efficientnet-b0", cwd=tmp_path)
    assert done.returncode == 1 and "only the class 'only'" in done.stderr
    class_folders(tmp_path / "two", {"full": 3, "empty": 0})
    done = run("train", "two", "--network", "efficientnet-b0", cwd=tmp_path)
    assert done.returncode == 1 and "'empty' is empty" in done.stderr
