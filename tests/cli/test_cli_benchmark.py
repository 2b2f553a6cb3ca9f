"""benchmark, plan --max-latency and reproduce --quick, as processes: what they print and write, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

from compoundnet import arch


def small(folder: Path, *names: str) -> list[Path]:
    files = []
    for index, name in enumerate(names, 1):
        network = arch.scale(arch.network("efficientnet-b0"), depth=0.1, width=0.25, resolution=32 * index)
        files.append(folder / f"{name}.toml")
        network.replace(name=name).save(files[-1])
    return files


def test_a_folder_gets_the_result_and_plots(tmp_path: Path) -> None:
    # Named as networks of Table 2, which the accuracies come from.
    files = small(tmp_path, "efficientnet-b0", "efficientnet-b1")
    done = run("benchmark", *files, "--backend", "torch", "--runs", "2", "--json", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert set(document["setting"]) >= {"processor", "cores", "pinned", "versions", "threads", "batch"}
    assert [(row["network"], row["backend"], row["precision"]) for row in document["measurements"]] == [
        ("efficientnet-b0", "torch", "float32"),
        ("efficientnet-b1", "torch", "float32"),
    ]
    assert set(document["measurements"][0]["latency"]) == {
        "mean", "median", "p95", "fastest", "slowest", "spread", "runs",
    }  # fmt: skip
    for name in ("accuracy-latency", "flops-latency"):
        assert (tmp_path / "out" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_text_says_that_weights_are_random_and_why_there_is_no_plot(tmp_path: Path) -> None:
    (file,) = small(tmp_path, "tiny")
    done = run("benchmark", file, "--runs", "1", "-o", tmp_path / "out")
    assert "tiny" in done.stdout and "random ones, which take as long" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["benchmark.json"]
    assert "no plot is drawn of fewer than two networks" in done.stderr
    assert "tiny: compiling for ONNX Runtime\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["benchmark", "efficientnet-bo"], 1, "did you mean efficientnet-b0"),
        (["benchmark", "efficientnet-b0", "--backend", "torch,onnxruntme"], 1, "did you mean onnxruntime"),
        (["benchmark", "efficientnet-b0", "--runs", "0"], 1, "runs must be at least 1, got 0"),
        (["benchmark", "efficientnet-b0", "--check-on", "images"], 2, "goes with --precision auto"),
        (["benchmark", "efficientnet-b0", "--threads", "1000"], 1, "threads must be 1 to"),
        (["plan", "efficientnet-b0", "--max-latency", "30 parsecs"], 1, "'30 parsecs' is not a time such as 30ms"),
        (["plan", "efficientnet-b0", "--max-latency", "30ms", "--backend", "tourch"], 1, "did you mean torch"),
        (["plan", "efficientnet-b0", "--max-latency", "30ms", "--threads", "0"], 1, "threads must be 1 to"),
        (["plan", "efficientnet-b0", "--max-macs", "1G", "--threads", "1"], 2, "go with --max-latency"),
        (["reproduce", "table2", "--quick"], 1, "table2 has no quick half; table4 has"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_a_plan_within_a_time_is_timed(tmp_path: Path) -> None:
    (file,) = small(tmp_path, "tiny")
    cache = str(tmp_path / "cache")
    done = run(
        "plan", file, "--max-latency", "5s", "--max-macs", "3M", "--backend", "torch", "--json", COMPOUNDNET_CACHE=cache
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["binding"], document["backend"], document["threads"]) == ("macs", "torch", 1)
    assert document["latency"]["median"] <= 5000 and document["predicted"] >= 0
    impossible = run("plan", file, "--max-latency", "1us", "--backend", "torch", COMPOUNDNET_CACHE=cache)
    assert impossible.returncode == 1
    assert "the smallest (32 px) takes" in impossible.stderr
