"""The `compoundnet` command. Each subcommand is a module; errors become one line and an exit code."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from collections import UserDict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.rich_utils import rich_format_error

from compoundnet import __version__
from compoundnet.base import CompoundNetError
from compoundnet.base.extras import naming_extras
from compoundnet.cli.faults import errors_as_lines
from compoundnet.cli.output import printable

# Command -> module and function or typer.Typer in it. A module is imported when its command runs, so that planning a
# network does not import the libraries that prediction needs.
_SEARCH = {
    "coefficients": "search_coefficients:coefficients",
    "architecture": "search_architecture:architecture",
    "study": "search_study:study",
    "worker": "search_worker:worker",
    "show": "search_show:show",
}
_COMMANDS = {
    "list": "list:list_networks",
    "describe": "describe:describe",
    "scale": "scale:scale",
    "plan": "plan:plan",
    "compare": "compare:compare",
    "predict": "predict:predict",
    "embed": "embed:embed",
    "explain": "explain:explain",
    "serve": "serve:serve",
    "models": "models:app",
    "export": "export:export",
    "benchmark": "benchmark:benchmark",
    "data": "data:app",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "search": "main:search",
    "fit": "fit:fit",
    "reproduce": "reproduce:reproduce",
}
# Command -> the extra that a message names where it installs the library that is missing.
_EXTRAS = {
    "explain": "explain",
    "serve": "serve",
    "train": "train",
    "evaluate": "train",
    "search": "search",
    "fit": "search",
    "reproduce": "paper",
}


# Of click; newer versions of typer have a copy of click inside. BadParameter is a UsageError, which is one of these.
_USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Imported(UserDict[str, Any]):
    """Commands by name, each imported on lookup."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if not isinstance(found, str):
            return found
        module, attribute = found.split(":")
        target = getattr(importlib.import_module(f"compoundnet.cli.{module}"), attribute)
        if not isinstance(target, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name=name)(target)
            target = app
        self[name] = command = typer.main.get_command(target)
        command.name = name
        return command


class _Group(TyperGroup):
    """A group of commands that are imported on demand."""

    table: Mapping[str, str]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(self.table)


class _Root(_Group):
    table = _COMMANDS


class _Search(_Group):
    table = _SEARCH


app = typer.Typer(cls=_Root, no_args_is_help=True, pretty_exceptions_enable=False)
search = typer.Typer(cls=_Search, no_args_is_help=True, add_completion=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"compoundnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Balance a ConvNet's depth, width and resolution with one coefficient: scale it, plan it for a budget, use it.

    Exit codes: 0 success; 1 failure; 2 wrong usage, or a start that nobody confirmed; 3 interrupted, the same command
    goes on; 70 a fault of compoundnet itself; 130 and 143 ended by Ctrl-C or SIGTERM.
    `--install-completion` completes commands, options and names in your shell.
    """


@search.callback()
def _search() -> None:
    """Search coefficients, architectures and the paper's scaling studies."""


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    with errors_as_lines():
        code = _run()
    sys.exit(code)


def _run() -> int:
    ours = logging.getLogger("compoundnet")  # not the root logger: other libraries have their own handlers
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    handler.addFilter(_OnceEach())
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # onnxruntime.quantization gives the root logger a handler, which would repeat each line
    if isinstance(sys.stdout, io.TextIOWrapper):  # tables too may hold names that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    _check_working_folder()
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        with naming_extras("this command", _EXTRAS.get(asked)):
            code = app(prog_name="compoundnet", standalone_mode=False)
            return code if isinstance(code, int) else 0
    except _USAGE_ERROR as error:
        wrong: Any = error
        wrong.message = printable(wrong.message)
        rich_format_error(wrong)
        return int(wrong.exit_code)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    finally:
        ours.propagate = True


def _check_working_folder() -> None:
    """Libraries fail with errors of their own if the folder in which a command runs was deleted."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise CompoundNetError("the current folder was deleted; change to another one and start again") from error


class _OnceEach(logging.Filter):
    """What is for information is said once: a network that runs at several sizes is compiled for each."""

    def __init__(self) -> None:
        super().__init__()
        self._said = set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            return True
        known, text = len(self._said), record.getMessage()
        self._said.add(text)
        return len(self._said) > known


class _Printable(logging.Formatter):
    """Messages without control characters, which names of files can hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
