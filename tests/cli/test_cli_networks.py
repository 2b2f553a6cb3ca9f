"""list, describe, scale and plan, as processes: what they print, their exit codes, and that they never load torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

from compoundnet import arch


def test_list_names_every_network() -> None:
    printed = run("list")
    assert printed.returncode == 0
    for members in arch.families().values():
        for name in members:
            assert f" {name} " in printed.stdout
    rows = json.loads(run("list", "--family", "efficientnet_lite", "--json").stdout)
    assert [row["name"] for row in rows] == [f"efficientnet-lite{index}" for index in range(5)]
    assert rows[0]["params"] == 4_652_008


def test_describe_prints_table_1() -> None:
    printed = run("describe", "efficientnet_b0").stdout
    assert "MBConv6, k5x5" in printed
    assert "5,288,548" in printed
    assert "224 x 224" in printed


def test_describe_json() -> None:
    document = json.loads(run("describe", "efficientnet-b3", "--json").stdout)
    assert document["name"] == "efficientnet-b3"
    assert (document["resolution"], document["params"], document["macs"]) == (300, 12_233_232, 1_827_141_392)
    assert document["activations"] > 0 and document["memory_bytes"] > 0
    assert [stage["channels"] for stage in document["stages"]] == [40, 24, 32, 48, 96, 136, 232, 384, 1536]


def test_describe_with_other_classes_resolution_and_batch() -> None:
    plain = json.loads(run("describe", "efficientnet-b0", "--json").stdout)
    other = json.loads(
        run(
            "describe", "efficientnet-b0", "--num-classes", "10", "--resolution", "320", "--batch", "8", "--json"
        ).stdout
    )
    assert plain["params"] - other["params"] == 990 * 1281
    assert other["resolution"] == 320
    assert other["memory_bytes"] > 2 * plain["memory_bytes"]


def test_scale_by_hand_and_by_phi(tmp_path: Path) -> None:
    path = tmp_path / "b3.toml"
    done = run(
        "scale", "efficientnet-b0", "--depth", "1.4", "--width", "1.2", "--resolution", "300", "-o", path, "--json"
    )
    assert json.loads(done.stdout)["params"] == 12_233_232
    assert arch.Network.load(path).resolution == 300
    assert json.loads(run("describe", path, "--json").stdout)["macs"] == 1_827_141_392
    again = json.loads(run("scale", path, "--phi", "1", "--json").stdout)
    assert again["resolution"] == 345
    small = json.loads(run("scale", "efficientnet-b0", "--phi", "-2", "--json").stdout)
    assert small["resolution"] == 169
    own = run("scale", "efficientnet-b0", "--phi", "1", "--alpha", "1", "--beta", "1", "--gamma", "1.4142", "--json")
    assert json.loads(own.stdout)["resolution"] == 317


def test_plan(tmp_path: Path) -> None:
    done = run("plan", "efficientnet-b0", "--max-macs", "1.8G", "-o", tmp_path / "net.toml", "--json")
    document = json.loads(done.stdout)
    assert document["macs"] <= 1.8e9
    assert document["resolution"] == 292
    assert {"phi", "depth", "width", "params", "memory_bytes"} <= set(document)
    assert set(document["alternatives"]) == {"depth", "width", "resolution", "fast"}
    assert arch.cost(arch.Network.load(tmp_path / "net.toml")).macs == document["macs"]
    assert "phi" in run("plan", "efficientnet-b0", "--max-macs", "1.8G", "--max-memory", "100MB").stdout


def test_rules_of_scaling(tmp_path: Path) -> None:
    fast = json.loads(run("scale", "efficientnet-b0", "--phi", "2", "--rule", "fast", "--json").stdout)
    assert fast["scaling"]["width"] == pytest.approx(2**0.8)
    even = json.loads(
        run("scale", "efficientnet-b0", "--phi", "2", "--rule", "fast", "--width-share", "0.5", "--json").stdout
    )
    assert even["scaling"]["width"] == pytest.approx(2**0.5)
    (tmp_path / "own.toml").write_text("alpha = 1.1\nbeta = 1.2\ngamma = 1.1\n")
    own = json.loads(
        run("plan", "efficientnet-b0", "--max-macs", "2G", "--coefficients", tmp_path / "own.toml", "--json").stdout
    )
    assert own["rule"] == "coefficients" and own["width"] == pytest.approx(1.2 ** own["phi"])
    assert {"compound", "fast"} < set(own["alternatives"])


def test_a_small_budget_says_which_rule_it_took() -> None:
    done = run("plan", "efficientnet-b0", "--max-macs", "24M", "--json")
    assert json.loads(done.stdout)["rule"] == "tiny"
    assert "efficientnet-b0 itself exceeds the budget" in done.stderr and "--rule compound" in done.stderr
    paper = run("plan", "efficientnet-b0", "--max-macs", "24M", "--rule", "compound", "--json")
    assert json.loads(paper.stdout)["rule"] == "compound" and paper.stderr == ""
    printed = run("plan", "efficientnet-lite0", "--max-sram", "320kB", "--max-flash", "1MB", "--classes", "10").stdout
    assert "SRAM, int8" in printed and "flash, int8" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["describe", "efficientnet-bo"], 1, "did you mean efficientnet-b0"),
        (["describe", "no-such.toml"], 1, "no-such.toml: cannot be read"),
        (["describe", "efficientnet-b0", "--resolution", "16"], 1, "resolution must be at least 32 px, got 16"),
        (["describe", "efficientnet-b0", "--batch", "0"], 1, "batch must be at least 1, got 0"),
        (["list", "--family", "effnet"], 1, "no family named 'effnet'"),
        (["scale", "efficientnet-b0"], 2, "--phi"),
        (["scale", "efficientnet-b0", "--phi", "1", "--depth", "2"], 2, "--depth"),
        (["scale", "efficientnet-b0", "--depth", "2", "--alpha", "1.2"], 2, "--phi"),
        (["scale", "efficientnet-b0", "--width", "nan"], 1, "width must be a number above 0, got nan"),
        (["scale", "efficientnet-b0", "--resolution", "16"], 1, "got 16 px"),
        (["scale", "efficientnet-b0", "--phi", "1", "--beta", "0.5"], 1, "beta must be at least 1"),
        (["scale", "efficientnet-b0", "--phi", "1", "--rule", "tiny"], 1, "the rule tiny only makes networks smaller"),
        (
            ["scale", "efficientnet-b0", "--phi", "1", "--rule", "fst"],
            1,
            "no scaling rule named 'fst'; did you mean fast",
        ),
        (["scale", "efficientnet-b0", "--depth", "2", "--rule", "fast"], 2, "go with --phi"),
        (["scale", "efficientnet-b0", "--phi", "1", "--rule", "fast", "--alpha", "2"], 2, "leave out --alpha"),
        (["plan", "efficientnet-b0", "--max-macs", "1G", "--rule", "tiny"], 1, "is within the budget; use compound or"),
        (["plan", "efficientnet-b0", "--max-macs", "1G", "--width-share", "0.5"], 2, "goes with --rule fast"),
        (["plan", "efficientnet-b0", "--max-macs", "1G", "--rule", "fast", "--width-share", "2"], 1, "between 0 and 1"),
        (["plan", "efficientnet-b0"], 2, "--max-macs"),
        (["plan", "efficientnet-b0", "--max-macs", "much"], 1, "'much' is not a number such as 390M"),
        (["plan", "efficientnet-b0", "--max-params", "1k"], 1, "params of at most 1,000 was asked"),
        (["plan", "efficientnet-b0", "--max-macs", "1G", "-o", "/dev/null/net.toml"], 1, "/dev/null"),
        (["nonsense"], 2, "nonsense"),
        (["scale", "efficientnet-b0", "--phi", "one"], 2, "valid number"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_command() -> None:
    printed = run("--help").stdout
    for command in ("list", "describe", "scale", "plan", "predict", "models"):
        assert command in printed
    assert run("--version").stdout.startswith("compoundnet ")


def test_planning_and_importing_load_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, compoundnet as cn; cn.plan(cn.network('efficientnet-b0'), max_macs=1.8e9);"
        "from compoundnet.cli.main import main;"
        "sys.argv = ['compoundnet', 'plan', 'efficientnet-b0', '--max-macs', '1G'];"
        "\ntry: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
