"""The package's front door and its packages' tables of contents: light, complete, typed."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import compoundnet as cn

ROOT = Path(cn.__file__).parent
PACKAGES = sorted(
    ".".join(("compoundnet", *stub.parent.relative_to(ROOT).parts)) for stub in ROOT.rglob("__init__.pyi")
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_of_a_lazy_package_loads_and_is_listed_for_type_checkers(name: str) -> None:
    package = importlib.import_module(name)
    stub = ast.parse(Path(str(package.__file__)).with_suffix(".pyi").read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert listed == sorted(listed, key=lambda text: (not text.isupper(), not text[0].isupper(), text))
    assert set(listed) == set(package.__all__) <= set(dir(package))
    for attribute in listed:
        assert getattr(package, attribute) is not None


def test_a_name_shared_by_a_function_and_its_module_is_the_function() -> None:
    code = "import compoundnet.models.conversion; from compoundnet.models import convert; print(callable(convert))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No compoundnet attribute nothing"):
        getattr(cn, "nothing")  # noqa: B009  # mypy would refuse the plain form


def test_the_version_is_the_installed_one() -> None:
    assert version("compoundnet") == cn.__version__


def test_importing_any_package_loads_nothing_heavy() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; print({{'torch', 'numpy', 'PIL', 'rich', 'typer'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_no_module_imports_from_a_package_that_it_is_in() -> None:
    """import-linter follows imports of modules; a name that its own package loads lazily would hide a circle."""
    found = []
    for file in ROOT.rglob("*.py"):
        module = ".".join(("compoundnet", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not f"{module}.".startswith(f"{node.module}."):
                continue
            folder = ROOT.joinpath(*str(node.module).split(".")[1:])
            for name in (alias.name for alias in node.names if alias.name != "__version__"):
                if not (folder / f"{name}.py").exists() and not (folder / name).is_dir():
                    found.append(f"{module}: from {node.module} import {name}")
    assert found == []
