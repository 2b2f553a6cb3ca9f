"""Planning on the page: the command line's own answers, and catalogue names only."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from command import run
from page_server import Page, page_here

from compoundnet import arch


@pytest.fixture(scope="module")
def server() -> Iterator[Page]:
    with page_here() as running:
        yield running


def test_a_scaled_network_is_the_one_of_the_command_beside_it(server: Page) -> None:
    shown = server.ask("/api/scale?network=efficientnet-b0&phi=-1.5").json()
    assert shown["command"] == "compoundnet scale efficientnet-b0 --phi -1.5"
    told = json.loads(run(*shlex.split(shown["command"])[1:], "--json").stdout)
    assert (shown["name"], shown["resolution"], shown["stages"]) == (told["name"], told["resolution"], told["stages"])
    assert {figure: told[figure] for figure in shown["cost"]} == shown["cost"]
    assert shown["weights_bytes"] == 4 * told["params"]
    assert shown["base_cost"]["params"] == 5_288_548


def test_a_planned_network_is_the_one_of_the_command_beside_it(server: Page) -> None:
    shown = server.ask("/api/plan?network=mobilenet-v2&max_macs=1.8G&max_params=9000000").json()
    assert shown["command"] == "compoundnet plan mobilenet-v2 --max-macs=1.8G --max-params=9000000"
    told = json.loads(run(*shlex.split(shown["command"])[1:], "--json").stdout)
    for field in ("name", "rule", "phi", "depth", "width", "resolution", "binding", "alternatives"):
        assert shown[field] == told[field], field
    assert shown["cost"]["macs"] == told["macs"] <= 1.8e9
    assert shown["cost"]["params"] == told["params"] <= 9e6


def test_a_rule_can_be_chosen(server: Page) -> None:
    assert list(server.ask("/api/choices").json()["rules"]) == ["compound", "fast", "tiny"]
    for path, query in (("scale", "phi=2"), ("plan", "max_macs=2G")):
        shown = server.ask(f"/api/{path}?network=efficientnet-b0&{query}&rule=fast").json()
        assert shown["rule"] == "fast" and shown["command"].endswith("--rule=fast")
        told = json.loads(run(*shlex.split(shown["command"])[1:], "--json").stdout)
        assert (shown["name"], shown["cost"]["activations"]) == (told["name"], told["activations"])
    small = server.ask("/api/plan?network=efficientnet-b0&max_macs=24M").json()
    assert small["rule"] == "tiny" and small["note"].startswith("efficientnet-b0 itself exceeds the budget")


def test_every_baseline_of_the_catalogue_can_be_chosen_and_scaled(server: Page) -> None:
    offered = server.ask("/api/choices").json()["baselines"]
    assert offered == {family: list(members) for family, members in arch.families().items()}
    for name in (name for members in offered.values() for name in members):
        assert server.ask(f"/api/scale?network={name}&phi=0.5").status == 200, name


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("scale", {"network": "efficientnet-b0", "phi": "wide"}, "phi must be a number, got 'wide'"),
        ("scale", {"network": "efficientnet-b0", "phi": "nan"}, "phi must be a number between -100 and 100, got nan"),
        ("scale", {"network": "efficientnet-b0", "phi": "-30"}, "phi -30 gives a resolution of 3.383 px"),
        ("scale", {"network": "efficientnet-b0"}, "the address lacks phi="),
        (
            "scale",
            {"network": "efficientnet-b0", "phi": "1", "rule": "fst"},
            "no scaling rule named 'fst'; did you mean fast",
        ),
        ("scale", {"network": "efficientnet-b0", "phi": "1", "rule": "tiny"}, "tiny only makes networks smaller"),
        ("scale", {"network": "efficientnet-bo", "phi": "1"}, "did you mean efficientnet-b0"),
        ("plan", {"network": "efficientnet-b0"}, "tick at least one bound"),
        ("plan", {"network": "efficientnet-b0", "max_macs": "lots"}, "'lots' is not a number such as 390M"),
        (
            "plan",
            {"network": "efficientnet-b0", "max_params": "10"},
            "no network of efficientnet-b0 fits by the rule tiny: params",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(server: Page, path: str, query: dict[str, str], message: str) -> None:
    answer = server.ask(f"/api/{path}?{urlencode(query)}")
    assert answer.status == 400
    assert message in answer.json()["error"]


def test_no_file_is_opened_as_a_network(server: Page, tmp_path: Path) -> None:
    arch.network("efficientnet-b0").save(tmp_path / "mine.toml")
    answer = server.ask(f"/api/scale?{urlencode({'network': tmp_path / 'mine.toml', 'phi': 1})}")
    assert answer.status == 400
    assert answer.json()["error"].startswith("there is no network named")
