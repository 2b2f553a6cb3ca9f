"""Faults as a habit: a command meets one at a random moment, runs again, and must end as if nothing had happened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from command import run
from small_model import write_small_model
from small_space import SPACE
from small_train import class_folders, small_network, small_recipe

from compoundnet.nn import build

# `disk full`: no file can grow beyond a size. `small disk`: the outputs lie on a file system of a few bytes, where one
# can be mounted. `clock`: time.time jumps by a day.
FAULTS = ("SIGKILL", "SIGTERM", "SIGINT", "disk full", "small disk", "clock")
# Lines and fields that hold times or speeds, which differ from run to run.
_VARIES = re.compile(
    rb'"(measured_at|images_per_second|seconds|milliseconds|date)": ?("[^"]*"|[-0-9.e]+)|Made [-0-9]+ [0-9:+]+ by'
)
# What a run keeps for itself: compared by what comes of it.
_OWN = ("*.run", "study.db*", "*.lock", "events.out.*", "log.csv", "curves.png")


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file of an output, without times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not any(Path(part).match(pattern) for pattern in _OWN for part in name.split("/")):
            found[name] = hashlib.sha256(_VARIES.sub(rb"", file.read_bytes())).hexdigest()
    return found


def fitted(folder: Path) -> dict[str, str]:
    """The answer of `fit`, without its times: the network and its weights, and that the file and report are there."""
    kept = ("labels.txt", "network.toml", "preprocess.toml", "weights.safetensors")
    beside = {name: "there" for name in ("best.onnx", "best.fit/report.html") if (folder / name).is_file()}
    return {name: digest for name, digest in digests(folder / "best").items() if name in kept} | beside


class Scenario(NamedTuple):
    """A command, and what is added to it when it runs again.

    Attributes:
        name: What results call it.
        arguments: Its words; the outputs lie in `out`.
        again: More words for the second run.
        slow: Whether it takes more than a few seconds.
        answer: What must be the same, by name, given the folder of the outputs.
    """

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    slow: bool = False
    answer: Callable[[Path], dict[str, str]] = digests


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
    Scenario(
        "search architecture",
        ("search", "architecture", "images", "--space", "space.toml", "--target-macs", "400k", "--trials", "4",
         "--recipe", "search_recipe.toml", "--sampler", "random", "--yes", "-o", "out/study"),
        slow=True,
    ),
    Scenario(
        "search study",
        ("search", "study", "small.toml", "images", "--figure", "8", "--budgets", "2", "--seeds", "1",
         "--recipe", "search_recipe.toml", "--yes", "-o", "out/study"),
        slow=True,
    ),
    Scenario(
        "train --sweep",
        ("train", "images", "--network", "small.toml", "--recipe", "search_recipe.toml", "--workers", "0", "--sweep",
         "-o", "out/swept"),
        ("--resume",),
        slow=True,
    ),
    Scenario("fit", ("fit", "images", "--candidate", "model", "-o", "out/best"), slow=True, answer=fitted),
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


class _Undisturbed(NamedTuple):
    """An undisturbed run: what must be the same, its seconds, and the bytes of its largest file and of all."""

    answer: dict[str, str]
    seconds: float
    largest: int
    size: int


class Chaos:
    """A folder with inputs, in which commands meet faults.

    Args:
        folder: An empty folder.
        seed: Of the moments; a number of its own for each kill, so that a run which goes on later takes the same.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self.seed = folder, seed
        self._undisturbed: dict[str, _Undisturbed] = {}
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
        (self._inputs / "space.toml").write_text(SPACE)
        (self._inputs / "search_recipe.toml").write_text(small_recipe("epochs=1").dumps())

    def kill(self, scenario: Scenario, fault: str) -> Kill:
        """Let a command meet a fault, run it again, and compare with an undisturbed run."""
        whole = self._expected(scenario)
        drawn = random.Random(f"{self.seed} {scenario.name} {fault}")
        moment = drawn.random()
        place = self._place()
        fault_of: dict[str, dict[str, Any]] = {
            "disk full": {"bytes": max(200, int(moment * whole.largest))},
            "small disk": {},
            "clock": {"clock": [moment * whole.seconds, drawn.choice([-86_400, 86_400])]},
        }
        killed: dict[str, Any] = {"kill": [getattr(signal, fault, 0), moment * whole.seconds]}
        size = max(4096, int(moment * whole.size)) if fault == "small disk" else None
        with _disk(place / "out", size) as grow:
            first = run(*scenario.arguments, cwd=place, fault=fault_of.get(fault, killed))
            grow()
            second = first
            if first.returncode != 0 and scenario.answer(place / "out") != whole.answer:  # not killed after its work
                started = (place / "out").is_dir() and any((place / "out").iterdir())
                again = scenario.again if started or scenario.again == ("--resume",) else ()
                second = run(*scenario.arguments, *again, cwd=place)
            code = second.returncode if second is not first else 0
            lost = self._lost(scenario, whole.answer, place, code, second.stderr)
        if "Traceback" in first.stderr:
            lost = f"a traceback: {first.stderr.splitlines()[-1]}"
        shutil.rmtree(place)
        return Kill(scenario.name, fault, moment, first.returncode, lost)

    def _lost(self, scenario: Scenario, expected: dict[str, str], place: Path, code: int, stderr: str) -> str:
        if code != 0:
            return f"the second run failed: {stderr.strip().splitlines()[-1:]}"
        scratch = [path.name for path in place.rglob(".*.part")]
        if scratch:
            return f"scratch was left: {scratch}"
        found = scenario.answer(place / "out")
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        return f"differs: {', '.join(differing)}" if differing else ""

    def _expected(self, scenario: Scenario) -> _Undisturbed:
        if scenario.name not in self._undisturbed:
            place = self._place()
            begun = time.monotonic()
            done = run(*scenario.arguments, cwd=place)
            assert done.returncode == 0, done.stderr
            seconds = time.monotonic() - begun
            sizes = [file.stat().st_size for file in (place / "out").rglob("*") if file.is_file()]
            answer = scenario.answer(place / "out")
            assert answer
            self._undisturbed[scenario.name] = _Undisturbed(answer, seconds, max(sizes), sum(sizes))
            shutil.rmtree(place)
        return self._undisturbed[scenario.name]

    def _place(self) -> Path:
        place = self._folder / "place"
        shutil.copytree(self._inputs, place)
        return place


@contextmanager
def _disk(folder: Path, size: int | None) -> Iterator[Callable[[], object]]:
    """Mount a file system of so many bytes on a folder; gives a function that makes it large. None: do nothing."""
    if size is None:
        yield lambda: None
        return
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=1G", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cache
def possible_faults() -> tuple[str, ...]:
    """FAULTS, without `small disk` where this process may mount no file system."""
    if os.geteuid() == 0 and shutil.which("mount"):
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.suppress(subprocess.CalledProcessError),
            _disk(Path(folder, "disk"), 4096),
        ):
            return FAULTS
    return tuple(fault for fault in FAULTS if fault != "small disk")


def table(kills: list[Kill]) -> str:
    """The outcome as Markdown: the kills of each command by fault, and each that lost something."""
    faults = [fault for fault in FAULTS if any(kill.fault == fault for kill in kills)]
    lines = [f"| command | {' | '.join(faults)} | lost |", f"|---|{'---|' * (len(faults) + 1)}"]
    for name in dict.fromkeys(kill.scenario for kill in kills):
        own = [kill for kill in kills if kill.scenario == name]
        counts = [str(sum(kill.fault == fault for kill in own)) for fault in faults]
        lines.append(f"| {name} | {' | '.join(counts)} | {sum(bool(kill.lost) for kill in own)} |")
    lost = [f"- {kill.scenario}, {kill.fault} at {kill.moment:.0%}: {kill.lost}" for kill in kills if kill.lost]
    return "\n".join([*lines, *(["", *lost] if lost else [])])
