"""Every shell and Python block of the README and the documentation runs, or says why it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doc_blocks import PAGES, ROOT, RUNNABLE, Block, agrees, blocks, run_page
from known_photos import cat, need_lite0, package_file
from PIL import Image
from small_model import write_small_model

ALL = {path.relative_to(ROOT).as_posix(): blocks(path) for path in PAGES}
RUN = {page: found for page, found in ALL.items() if any(b.language in RUNNABLE and not b.mark for b in found)}
SLOW = {page: found for page, found in ALL.items() if any(b.mark == "slow" for b in found)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: a cat, some images, a model folder, and the repository's examples."""
    need_lite0()
    with Image.open(cat()) as image:
        image.convert("RGB").save(tmp_path / "cat.jpg", quality=95)
    shutil.copy(cat(), tmp_path / "cat.png")
    (tmp_path / "images").mkdir()
    for index, path in enumerate(sorted(package_file("foolbox", "data").glob("imagenet_*.jpg"))[:6]):
        shutil.copy(path, tmp_path / "images" / f"{index}.jpg")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    write_small_model(tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name(block: Block) -> str:
    return str(block)


@pytest.mark.parametrize("block", [block for found in ALL.values() for block in found], ids=name)
def test_a_block_names_its_language_and_a_mark_its_reason(block: Block) -> None:
    assert block.language, f"{block}: a block is fenced and names its language (text for output)"
    assert block.language not in ("bash", "shell", "console", "py"), f"{block}: write sh or python"
    assert block.detail or block.mark in ("", "output"), f"{block}: `{block.mark}` says why, or which file"


@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page: str, folder: Path) -> None:
    run_page(RUN[page], slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_slow_blocks_run(page: str, folder: Path) -> None:
    run_page(SLOW[page], slow=True)


def test_output_is_compared_but_for_space_and_ellipses() -> None:
    assert agrees("took 12 s\nfor  3 images", "took ... s for 3 images\n")
    assert not agrees("took 12 s for 4 images", "took ... s for 3 images")
