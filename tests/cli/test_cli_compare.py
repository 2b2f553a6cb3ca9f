"""compare, as a process."""

from __future__ import annotations

import json
from pathlib import Path

from command import run

from compoundnet import arch


def test_networks_stand_side_by_side(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    arch.scale(arch.network("resnet-18"), depth=2, name="my-resnet").save(own)
    done = run("compare", "EfficientNet_B0", "resnet-50", own, "amoebanet-b")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    order = [next(index for index, line in enumerate(lines) if name in line) for name in
             ("efficientnet-b0", "resnet-50", "my-resnet", "amoebanet-b")]  # fmt: skip
    assert order == sorted(order)
    assert "851 px" in done.stdout
    assert lines[order[3]].split()[-4:] == ["-"] * 4


def test_json_holds_the_cost_and_null_where_it_is_not_known() -> None:
    b0, densenet = json.loads(run("compare", "efficientnet-b0", "densenet-169", "--json").stdout)
    cost = arch.cost(arch.network("efficientnet-b0"))
    assert (b0["params"], b0["macs"], b0["activations"]) == (cost.params, cost.macs, cost.activations)
    assert (b0["memory_bytes"], b0["receptive_field"]) == (cost.memory_bytes, 851)
    assert densenet["macs"] == 3_359_843_328
    assert densenet["receptive_field"] is None


def test_mistakes() -> None:
    misspelt = run("compare", "efficientnet-b0", "densnet-169")
    assert misspelt.returncode == 1
    assert "did you mean densenet-169" in misspelt.stderr
    assert run("compare").returncode == 2
