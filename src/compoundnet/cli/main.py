"""The `compoundnet` command. Each subcommand is a module; errors become one line and an exit code."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections import UserDict
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compoundnet import __version__
from compoundnet.base import CompoundNetError
from compoundnet.base.extras import naming_extras

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
    "explain": "explain:explain",
    "serve": "serve:serve",
    "models": "models:app",
    "export": "export:export",
    "benchmark": "benchmark:benchmark",
    "data": "data:app",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "search": "main:search",
    "reproduce": "reproduce:reproduce",
}
# Command -> the extra that a message names where it installs the library that is missing.
_EXTRAS = {
    "explain": "explain",
    "serve": "serve",
    "train": "train",
    "evaluate": "train",
    "search": "search",
    "reproduce": "paper",
}


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

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped on request (can be resumed).
    `--install-completion` completes commands, options and names in your shell.
    """


@search.callback()
def _search() -> None:
    """Search coefficients, architectures and the paper's scaling studies."""


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    ours = logging.getLogger("compoundnet")  # not the root logger: other libraries have their own handlers
    ours.addHandler(logging.StreamHandler())
    ours.setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):  # tables too may hold names that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        with naming_extras("this command", _EXTRAS.get(asked)):
            app(prog_name="compoundnet")
    except CompoundNetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
