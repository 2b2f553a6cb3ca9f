"""Faults as a habit: a command meets one at a random moment, runs again, and must end as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from command import run
from small_model import write_small_model
from small_train import class_folders, small_network, small_recipe

from compoundnet.nn import build

FAULTS = ("SIGKILL", "SIGTERM", "SIGINT", "disk full", "clock")
# Lines and fields that hold times or speeds, which differ from run to run.
_VARIES = re.compile(
    rb'"(measured_at|images_per_second|seconds|milliseconds|date)": ?("[^"]*"|[-0-9.e]+)|Made [-0-9]+ [0-9:+]+ by'
)
# What a run keeps for itself: compared by what comes of it.
_OWN = ("*.run", "study.db*", "*.lock", "events.out.*", "log.csv", "curves.png")


class Scenario(NamedTuple):
    """A command, and what is added to it when it runs again.

    Attributes:
        name: What results call it.
        arguments: Its words; the outputs lie in `out`.
        again: More words for the second run.
        slow: Whether it takes more than a few seconds.
    """

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    slow: bool = False


_TRAIN = ("--network", "small.toml", "--recipe", "small_recipe.toml", "--workers", "0")
_CONVERT = ("models", "convert", "weights.pth", "-o", "out/model", "--network", "small.toml")
SCENARIOS = (
    Scenario("convert", _CONVERT, ("--force",)),
    Scenario("convert to", ("models", "convert", "model", "--to", "timm", "-o", "out/w.pth"), ("--force",)),
    Scenario("predict", ("predict", "model", "images", "--csv", "out/p.csv", "--backend", "torch")),
    Scenario("shard", ("data", "shard", "images", "-o", "out/shards")),
    Scenario("data check", ("data", "check", "images", "-o", "out/report.html")),
    Scenario("explain", ("explain", "model", "images/dark", "-o", "out/maps", "--backend", "torch")),
    Scenario("export", ("export", "model", "-o", "out/m.onnx"), slow=True),
    Scenario("export torch", ("export", "model", "-o", "out/m.pt2", "--format", "torch"), slow=True),
    Scenario("reproduce", ("reproduce", "table1", "-o", "out/table"), slow=True),
    Scenario("train", ("train", "images", *_TRAIN, "-o", "out/trained"), ("--resume",), slow=True),
    Scenario(
        "search coefficients",
        ("search", "coefficients", "small.toml", "images", "--recipe", "search_recipe.toml", "--grid", "1.0:1.4:0.4",
         "--yes", "-o", "out/study"),
        slow=True,
    ),
)  # fmt: skip


class Kill(NamedTuple):
    """One fault and its outcome.

    Attributes:
        scenario: The command.
        fault: The fault.
        moment: When it happened, as a fraction of the time that the command takes.
        code: The exit code of the command that met it.
        lost: What differs after the command ran again; empty if nothing was lost.
    """

    scenario: str
    fault: str
    moment: float
    code: int
    lost: str


class Chaos:
    """A folder with inputs, in which commands meet faults.

    Args:
        folder: An empty folder.
        seed: Of the moments and the faults.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._random = folder, random.Random(seed)
        self._undisturbed: dict[str, tuple[dict[str, str], float, int]] = {}
        self._inputs = folder / "inputs"
        self._inputs.mkdir(parents=True)
        write_small_model(self._inputs / "model", classes=3)
        class_folders(self._inputs / "images", {"dark": 12, "grey": 12, "light": 12})
        network = small_network()
        network.save(self._inputs / "small.toml")
        torch.manual_seed(0)
        torch.save(build(network).state_dict(), self._inputs / "weights.pth")
        run("--version")  # starts the server of commands, whose time is not that of a command
        recipe = small_recipe("save_minutes=0.001", "keep_finished=none")
        (self._inputs / "small_recipe.toml").write_text(recipe.dumps())
        (self._inputs / "search_recipe.toml").write_text(small_recipe("epochs=1").dumps())

    def kill(self, scenario: Scenario, fault: str) -> Kill:
        """Let a command meet a fault, run it again, and compare with an undisturbed run."""
        expected, seconds, largest = self._expected(scenario)
        moment = self._random.random()
        place = self._place()
        fault_of: dict[str, dict[str, Any]] = {
            "disk full": {"bytes": max(200, int(moment * largest))},
            "clock": {"clock": [moment * seconds, self._random.choice([-86_400, 86_400])]},
        }
        killed: dict[str, Any] = {"kill": [getattr(signal, fault, 0), moment * seconds]}
        first = run(*scenario.arguments, cwd=place, fault=fault_of.get(fault, killed))
        second = first
        if first.returncode != 0 and digests(place / "out") != expected:  # not killed after its work
            started = (place / "out").is_dir() and any((place / "out").iterdir())
            again = scenario.again if started or scenario.again == ("--resume",) else ()
            second = run(*scenario.arguments, *again, cwd=place)
        lost = self._lost(expected, place, second.returncode if second is not first else 0, second.stderr)
        if "Traceback" in first.stderr:
            lost = f"a traceback: {first.stderr.splitlines()[-1]}"
        shutil.rmtree(place)
        return Kill(scenario.name, fault, moment, first.returncode, lost)

    def _lost(self, expected: dict[str, str], place: Path, code: int, stderr: str) -> str:
        if code != 0:
            return f"the second run failed: {stderr.strip().splitlines()[-1:]}"
        scratch = [path.name for path in place.rglob(".*.part")]
        if scratch:
            return f"scratch was left: {scratch}"
        found = digests(place / "out")
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        return f"differs: {', '.join(differing)}" if differing else ""

    def _expected(self, scenario: Scenario) -> tuple[dict[str, str], float, int]:
        """The digests of an undisturbed run, the seconds that it took, and the size of its largest file."""
        if scenario.name not in self._undisturbed:
            place = self._place()
            begun = time.monotonic()
            done = run(*scenario.arguments, cwd=place)
            assert done.returncode == 0, done.stderr
            seconds = time.monotonic() - begun
            largest = max(file.stat().st_size for file in (place / "out").rglob("*") if file.is_file())
            self._undisturbed[scenario.name] = digests(place / "out"), seconds, largest
            shutil.rmtree(place)
        return self._undisturbed[scenario.name]

    def _place(self) -> Path:
        place = self._folder / "place"
        shutil.copytree(self._inputs, place)
        return place


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file of an output, without times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not any(Path(part).match(pattern) for pattern in _OWN for part in name.split("/")):
            found[name] = hashlib.sha256(_VARIES.sub(rb"", file.read_bytes())).hexdigest()
    return found


def report(kills: list[Kill]) -> dict[str, Any]:
    """The outcome as facts: how many kills of each kind, and each that lost something."""
    lost = [kill._asdict() for kill in kills if kill.lost]
    counts = {name: sum(kill.scenario == name for kill in kills) for name in dict.fromkeys(k.scenario for k in kills)}
    return {"kills": len(kills), "lost": len(lost), "of each command": counts, "losses": lost}


def as_json(kills: list[Kill]) -> str:
    """`report` as JSON."""
    return json.dumps(report(kills), indent=2)
