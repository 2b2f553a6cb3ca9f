"""A library that is missing ends in one line that says which extra installs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from compoundnet.base import CompoundNetError, MissingLibraryError, need
from compoundnet.base.extras import EXTRAS, naming_extras

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
# Libraries that their distribution calls otherwise; anyio comes with starlette.
_DISTRIBUTIONS = {"pytorch_grad_cam": "grad-cam", "sklearn": "scikit-learn", "anyio": "starlette"}


def distributions(extra: str) -> set[str]:
    """What an extra installs by itself or by other extras of ours."""
    found: set[str] = set()
    for line in PROJECT["optional-dependencies"][extra]:
        required = Requirement(line)
        if required.name == "compoundnet":
            found = found.union(*(distributions(other) for other in required.extras))
        else:
            found.add(required.name)
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_extra_that_a_message_names_installs_the_library(extra: str) -> None:
    named = {_DISTRIBUTIONS.get(library, library.replace("_", "-")) for library in EXTRAS[extra]}
    assert named == distributions(extra)


def test_all_and_dev_install_every_extra() -> None:
    # LiteRT's converter holds typing-extensions back, and Ray is for clusters; the tests of the latter are slow ones.
    everything = set().union(*(distributions(extra) for extra in EXTRAS if extra not in ("litert", "ray")))
    assert everything <= distributions("all") <= distributions("dev")
    assert distributions("litert") <= distributions("dev")


def test_a_library_that_is_needed_and_missing_is_an_error_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    need("msgspec", "reading TOML", "none")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CompoundNetError, match=r"^reading Keras files needs h5py: pip install 'compoundnet\[keras\]'$"):
        need("h5py", "reading Keras files")
    with pytest.raises(ImportError, match=r"timing needs torch: pip install 'compoundnet\[train\]'"):
        monkeypatch.setitem(sys.modules, "torch", None)
        need("torch", "timing", extra="train")


def test_another_module_that_is_missing_stays_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught, naming_extras("this"):
        __import__("no_such_module")
    assert not isinstance(caught.value, MissingLibraryError)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("cn.build", "compoundnet.build needs torch: pip install 'compoundnet[torch]'"),
        ("cn.train.train", "compoundnet.train.train needs torch: pip install 'compoundnet[train]'"),
        ("from compoundnet.nn import build", "compoundnet.nn.build needs torch: pip install 'compoundnet[torch]'"),
    ],
)
def test_a_lazy_name_says_which_extra_it_needs(code: str, message: str) -> None:
    whole = f"import sys; sys.modules['torch'] = None; import compoundnet as cn; {code}"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(f"MissingLibraryError: {message}")


def test_the_command_line_says_which_extra_it_needs_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None;"
        "sys.argv = ['compoundnet', 'reproduce', 'figure1'];"
        "from compoundnet.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr == "error: this command needs matplotlib: pip install 'compoundnet[paper]'\n"
