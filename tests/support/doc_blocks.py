"""The blocks of the README and of the documentation, and a runner for those of one page.

A comment before a block says what happens with it; a shell or Python block without one runs in every test run.

- `<!-- not run: WHY -->`: nothing runs it.
- `<!-- slow: WHY -->`: only the slow tests run it.
- `<!-- file: NAME -->`: it is the content of a file, which later blocks read.
- `<!-- output -->`: what the block before it prints; `...` stands for anything, and space is not compared.

In Python, a comment after `print(...)` is what that line prints.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = ("sh", "python")
_MARK = re.compile(r"<!-- (not run|slow|file|output)(?:: (.+))? -->\s*$")
_PRINTED = re.compile(r"^print\(.*\)  # (.+)$")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str  # empty for a block that is only indented
    text: str
    mark: str  # empty, "not run", "slow", "file" or "output"
    detail: str  # the mark's reason or file

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """The page's blocks of code, in order."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    page = path.relative_to(ROOT).as_posix()
    found, mark = [], ("", "")
    for token in tokens:
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            found.append(Block(page, token.map[0] + 1, token.info.strip(), token.content, *mark))
        given = _MARK.search(token.content) if token.type == "html_block" else None
        mark = (given[1], given[2] or "") if given else ("", "")
    return found


def run_page(page: list[Block], *, slow: bool) -> None:
    """Run a page's blocks in the current folder, and compare what they print with what the page says."""
    namespace: dict[str, Any] = {"__name__": "page"}
    printed: str | None = None
    for block in page:
        if block.mark == "file":
            Path(block.detail).parent.mkdir(parents=True, exist_ok=True)
            Path(block.detail).write_text(block.text, encoding="utf-8")
        elif block.mark == "output" and printed is not None:
            assert agrees(printed, block.text), f"{block} says\n{block.text}\nbut it is\n{printed}"
        elif block.language in RUNNABLE:
            runs = not block.mark or (block.mark == "slow" and slow)
            printed = _run(block, namespace) if runs else None


def agrees(printed: str, expected: str) -> bool:
    """Whether `printed` is `expected`, where `...` stands for anything; space and the length of rules do not count."""
    parts = [re.escape(_dense(part)) for part in expected.split("...")]
    return re.fullmatch(".*".join(parts), _dense(printed), re.DOTALL) is not None


def _dense(text: str) -> str:
    return re.sub("─+", "─", "".join(text.split()))


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block; comments are left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _run(block: Block, namespace: dict[str, Any]) -> str:
    if block.language == "python":
        return _run_python(block, namespace)
    return "".join(_run_command(block, words) for words in commands(block.text))


def _run_python(block: Block, namespace: dict[str, Any]) -> str:
    code = compile("\n" * block.line + block.text, block.page, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)
    expected = [given[1] for line in block.text.splitlines() if (given := _PRINTED.match(line))]
    if expected:
        assert agrees(out.getvalue(), "\n".join(expected)), f"{block} prints\n{out.getvalue()}"
    return out.getvalue()


def _run_command(block: Block, words: list[str]) -> str:
    """Run `compoundnet ...` in this process, which saves the start of one, and return what it prints."""
    from compoundnet.cli.main import main

    assert words[0] == "compoundnet", f"{block}: only compoundnet's commands can be run here, mark it: {words}"
    log = logging.getLogger("compoundnet")
    handlers, level = list(log.handlers), log.level
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr(sys, "argv", words)
        for name, value in {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}.items():
            patch.setitem(os.environ, name, value)
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
        finally:
            log.handlers[:] = handlers
            log.setLevel(level)
    assert not code, f"{block}: exit code {code} of {shlex.join(words)}\n{out.getvalue()}{err.getvalue()}"
    return out.getvalue()
