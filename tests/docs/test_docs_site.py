"""The documentation site builds without a warning, needs no network, and its reference has every public name."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from doc_blocks import ROOT

PACKAGES = sorted(path.stem for path in (ROOT / "docs/reference").glob("*.md") if path.stem != "index")
# Addresses that a browser fetches while it shows a page; plain links are not.
FETCHED = re.compile(r"""(?:<script[^>]*\bsrc|<img[^>]*\bsrc|<link[^>]*\bhref)=["']?(?:https?:)?//[^"' >]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of what it is made of, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("docs", "examples", "src", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("zensical.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "build").mkdir()
    subprocess.run([sys.executable, "tools/draw_layout.py", "build/layout.svg"], cwd=folder, check=True)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_every_page_is_in_the_navigation() -> None:
    given = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    missing = [page for page in pages if f'"{page}"' not in given and not page.startswith("studies/")]
    assert not missing


def test_the_layout_has_a_row_for_each_package(site: Path) -> None:
    page = (site / "code/layout.html").read_text(encoding="utf-8")
    for path in (ROOT / "src/compoundnet").glob("*/__init__.py"):
        assert f">{path.parent.name}</text>" in page, path.parent.name
        assert f"<td><code>{path.parent.name}</code></td>" in page, path.parent.name


@pytest.mark.parametrize("path", sorted((ROOT / "docs/code").glob("one-*.md")), ids=lambda path: path.stem)
def test_what_a_page_says_of_the_code_is_there(path: Path) -> None:
    rows = re.findall(r"^\| `([^`]+\.py)` \| `(\w+)` \|", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    for file, name in rows:
        source = ROOT / "src/compoundnet" / file
        assert source.exists(), f"{path.name}: there is no {file}"
        code = source.read_text(encoding="utf-8")
        assert re.search(rf"^\s*(def|class) {name}\b", code, re.MULTILINE), f"{file} has no {name}"


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetched = {page.name: found for page in site.rglob("*.html") if (found := FETCHED.findall(page.read_text()))}
    assert not fetched


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(site: Path, package: str) -> None:
    data = (site / "objects.inv").read_bytes()
    listed = zlib.decompress(data.split(b"\n", 4)[4]).decode()
    names = {line.split(" ", 1)[0] for line in listed.splitlines()}
    module = importlib.import_module(f"compoundnet.{package}")
    missing = []
    for name in getattr(module, "__all__", ()):
        # A function with the name of its module is hidden by it, and has an entry of its own.
        if not {f"compoundnet.{package}.{name}", f"compoundnet.{package}.{name}.{name}"} & names:
            missing.append(name)
    assert not missing, f"docs/reference/{package}.md lacks {missing}"


def test_every_package_has_a_page_of_reference() -> None:
    packages = {path.parent.name for path in (ROOT / "src/compoundnet").glob("*/__init__.py")}
    assert packages - {"cli"} == set(PACKAGES)
