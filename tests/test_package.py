"""The package's front door: light, complete, typed."""

import subprocess
import sys
from pathlib import Path

import pytest

import compoundnet as cn


def test_every_export_is_there_and_typed() -> None:
    source = Path(cn.__file__).read_text()
    for name in cn._EXPORTS:
        assert getattr(cn, name) is not None
        assert f"import {name} as {name}" in source
    for name in cn._PACKAGES:
        assert getattr(cn, name).__name__ == f"compoundnet.{name}"
    assert set(cn._EXPORTS) <= set(dir(cn))


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(cn, "nothing")  # noqa: B009  # mypy would refuse the plain form


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert version("compoundnet") == cn.__version__


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, compoundnet; print({'torch', 'numpy', 'PIL', 'rich', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
