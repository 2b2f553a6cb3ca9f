"""What holds for all commands: --json, one meaning for each option, completion, and how progress is shown."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from command import run
from typer.main import get_command

from compoundnet.cli import progress
from compoundnet.cli.main import _OnceEach, app

# They report nothing: one serves a page until it is stopped, the other works for a study that `search show` reports.
WITHOUT_JSON = {"serve", "search worker"}
# What these mean depends on the command: its result, its backends, a session or a file, the formats that it times, the
# task of its workers, what the images are for.
OWN_MEANING = {
    "--output",
    "--backend",
    "--precision",
    "--format",
    "--workers",
    "--storage",
    "--data",
    "--network",
    "--resolution",
    "--width",
    "--phi",
    "--grid",
}


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the application with its whole name."""
    found: Any = group or get_command(app)
    for name, command in found.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_that_reports_takes_json() -> None:
    found = dict(commands())
    assert len(found) > 20
    takes = {name for name, command in found.items() if any("--json" in option.opts for option in command.params)}
    assert set(found) - takes == WITHOUT_JSON


def test_an_option_means_the_same_in_every_command() -> None:
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, command in commands():
        for parameter in command.params:
            for spelling in parameter.opts:
                if spelling.startswith("--") and spelling not in OWN_MEANING:
                    texts[spelling][parameter.help].append(name)
    assert {spelling: dict(told) for spelling, told in texts.items() if len(told) > 1} == {}


def test_every_option_is_explained() -> None:
    silent = [
        (name, parameter.name) for name, command in commands() for parameter in command.params if not parameter.help
    ]
    assert [entry for entry in silent if entry != ("search worker", "parent")] == []


def test_help_fits_80_columns() -> None:
    for name in ("train", "explain", "models convert"):
        done = run(*name.split(), "--help", COLUMNS="80")
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "…" not in done.stdout


def completions(line: str) -> list[str]:
    """What bash is offered where the cursor is at the end of `compoundnet LINE`."""
    words = ["compoundnet", *line.split(" ")]
    done = run(_COMPOUNDNET_COMPLETE="complete_bash", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pl", ["plan"]),
        ("search co", ["coefficients"]),
        ("plan efficientnet-lite", [f"efficientnet-lite{index}" for index in range(5)]),
        ("plan efficientnet-b0 --max-m", ["--max-macs", "--max-memory"]),
        ("predict efficientnet-lite2", ["efficientnet-lite2", "efficientnet-lite2.in1k"]),
        ("explain efficientnet-lite0 efficientnet-l", []),
        ("train --recipe f", ["finetune"]),
        ("train --network resnet-1", ["resnet-18", "resnet-101", "resnet-152"]),
        ("data describe cifar", ["cifar10", "cifar100"]),
        ("models convert --layout t", ["timm", "timm-native", "torchvision", "transformers", "tensorflow"]),
        ("reproduce table8", ["table8"]),
        ("list --family mob", ["mobilenet", "mobilenet-v4"]),
    ],
)
def test_the_shell_completes_commands_options_and_names(line: str, expected: list[str]) -> None:
    assert sorted(completions(line)) == sorted(expected)


def test_the_completion_script_is_for_this_command() -> None:
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_COMPOUNDNET_COMPLETE=complete_bash" in done.stdout
    assert "complete -o default -F _compoundnet_completion compoundnet" in done.stdout
    assert "--install-completion" in run("--help").stdout


def test_a_command_imports_no_other_command() -> None:
    code = (
        "import sys; from compoundnet.cli.main import main;"
        "sys.argv = ['compoundnet', 'list', '--family', 'resnet'];"
        "\ntry: main()\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('compoundnet.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = ["faults", "list", "main", "options", "output"]
    assert done.stdout.splitlines()[-1] == str([f"compoundnet.cli.{name}" for name in imported])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_leaves_notes_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    errors = Terminal()
    monkeypatch.setattr(sys, "stderr", errors)
    with progress.Display("verifying", 1200) as display:
        display.advance(600)
        display.notify("a.png: cannot be read")
    shown = errors.getvalue()
    assert "verifying" in shown and "600 of 1,200 images" in shown and "a.png: cannot be read\n" in shown


def test_progress_elsewhere_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.2)
    monkeypatch.setattr(progress, "_ENOUGH", 0.0)
    with progress.Display("verifying", 1200) as display:
        display.advance(100)  # too early for a line
        display.reach(400, "loss 1.500")
        time.sleep(0.5)
    lines = errors.getvalue().splitlines()
    assert lines and set(lines) == {"verifying: 400 of 1,200 images, loss 1.500, 0 s left"}


def test_quiet_progress_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = Terminal()
    monkeypatch.setattr(sys, "stderr", errors)
    with progress.Display("verifying", 1200, quiet=True) as display:
        display.advance(600)
        display.notify("a.png: cannot be read")
    assert errors.getvalue() == ""


def test_information_is_said_once_and_warnings_each_time() -> None:
    """`fit` judges a network at several resolutions, and each is compiled under the same name."""
    said: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, lines = logging.Logger("test", logging.INFO), Lines()
    lines.addFilter(_OnceEach())
    log.addHandler(lines)
    for _ in range(2):
        log.info("%s: compiling", "a")
        log.info("%s: compiling", "b")
        log.warning("the disk is full")
    assert said == ["a: compiling", "b: compiling", "the disk is full", "the disk is full"]
