"""The `compoundnet` command. Each subcommand is a module; errors become one line and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Annotated, Any

import typer

from compoundnet import CompoundNetError, __version__

# Command -> (module, function or typer.Typer). A module is imported when its command runs, so that planning a network
# does not wait for what predicting needs.
_COMMANDS = {
    "list": ("networks", "list_networks"),
    "describe": ("networks", "describe"),
    "scale": ("scaling", "scale"),
    "plan": ("scaling", "plan"),
    "predict": ("predict", "predict"),
    "models": ("models", "app"),
    "compare": ("compare", "compare"),
    "reproduce": ("reproduce", "reproduce"),
    "export": ("export", "export"),
    "benchmark": ("benchmark", "benchmark"),
    "data": ("data", "app"),
    "train": ("train", "train"),
    "evaluate": ("evaluate", "evaluate"),
    "explain": ("explain", "explain"),
    "serve": ("serve", "serve"),
    "search": ("search", "app"),
}


def _version(asked: bool) -> None:
    if asked:
        print(f"compoundnet {__version__}")
        raise typer.Exit


def _callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Balance a ConvNet's depth, width and resolution with one coefficient: scale it, plan it for a budget, use it."""


def _app(arguments: list[str]) -> typer.Typer:
    """The application with the command that is asked for, or with all where none is (help, a misspelt name)."""
    app = typer.Typer(callback=_callback, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name in [asked] if asked in _COMMANDS else _COMMANDS:
        module, attribute = _COMMANDS[name]
        target: Any = getattr(importlib.import_module(f"compoundnet.cli.{module}"), attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name)
        else:
            app.command(name=name)(target)
    return app


def main() -> None:
    """Run the command line. Exit code 0: done, 1: it failed, 2: it was used wrongly."""
    ours = logging.getLogger("compoundnet")  # not the root: other libraries have handlers of their own
    ours.addHandler(logging.StreamHandler())
    ours.setLevel(logging.INFO)
    try:
        _app(sys.argv[1:])()
    except CompoundNetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
