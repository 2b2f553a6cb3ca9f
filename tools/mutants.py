"""`python tools/mutants.py [--only PART] [--sample N] [--processes N]`: changes the pure core in single places, and
counts what the tests notice.

cosmic-ray makes the changes, in a copy of the tree for each process; each is tested in a fork of it, which has imported
the libraries. build/mutants/ keeps the outcomes, so that a run which was interrupted goes on; a change that was not
noticed is tried again when its tests have changed. Prints each change that no test noticed, as tools/mutants.toml names
it, and writes a section of benchmarks/RESULTS.md. Exit code 1 if less than 95 % of those that are not listed as
equivalent were noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[1]
LEAST = 0.95
# Of cosmic-ray's two hundred operators those that stand for slips: a sign, a comparison, `and` for `or`, a number.
_OPERATORS = (
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Add",
    "ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Div",
    "ReplaceBinaryOperator_Pow_Mul", "ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq", "ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer", "AddNot",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
)  # fmt: skip
# Libraries that tests import, but not ONNX Runtime, which does not survive a fork.
_HEAVY = (
    "hypothesis",
    "msgspec",
    "numpy",
    "pytest",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.stats",
    "sympy",
    "torch",
)
_SECONDS = 600


class Mutant(NamedTuple):
    """A change of a module in one place.

    Attributes:
        module: The module, below src/compoundnet.
        operator: cosmic-ray's operator.
        occurrence: Its place in the module, as cosmic-ray counts.
        row: The line.
        line: The text of the line, without space around it.
        number: Its place among the changes of that operator in lines of that text, from 1.
    """

    module: str
    operator: str
    occurrence: int
    row: int
    line: str
    number: int

    def __str__(self) -> str:
        return f"{self.module}:{self.row} {self.operator} {self.number}: {self.line}"

    @property
    def name(self) -> tuple[str, str, str, int]:
        """What tools/mutants.toml calls it; the line's number changes too often."""
        return self.module, self.operator, self.line, self.number


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the path of the modules to change")
    parser.add_argument("--sample", type=int, help="so many changes of each module, drawn at random")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="modules at a time")
    asked = parser.parse_args()
    settings = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text(encoding="utf-8"))
    equivalent = {
        (it["module"], it["operator"], it["line"], it.get("number", 1)): it["why"]
        for it in settings.get("equivalent", ())
    }
    kinds = [(it["operator"], re.compile(it["pattern"])) for it in settings.get("kinds", ())]
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
    for library in _HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    gc.freeze()  # or the collections of each fork would copy all of it
    due = [
        (module, group["tests"], asked.sample)
        for group in settings["groups"]
        for module in group["modules"]
        if asked.only in module
    ]
    noticed, survived = Counter[str](), list[Mutant]()
    forks = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(asked.processes, mp_context=forks) as pool:
        for outcomes in pool.map(_outcomes, due):
            for mutant, found in outcomes:
                noticed[mutant.module] += found
                survived += [] if found else [mutant]
    unknown = [
        mutant
        for mutant in survived
        if mutant.name not in equivalent
        and not any(operator == mutant.operator and pattern.search(mutant.line) for operator, pattern in kinds)
    ]
    text = _report(noticed, survived, unknown)
    print(text)
    from results import write_section  # noqa: PLC0415  it imports compoundnet, which the forks must not have

    if not asked.only and asked.sample is None:
        write_section("Mutants", text)
    share = noticed.total() / max(1, noticed.total() + len(unknown))
    return 0 if share >= LEAST else 1


def _report(noticed: Counter[str], survived: list[Mutant], unknown: list[Mutant]) -> str:
    lines = ["| module | noticed | not noticed | equivalent | share |", "|---|---|---|---|---|"]
    counts = [(module, count, *_counts(module, survived, unknown)) for module, count in sorted(noticed.items())]
    total = ("all", noticed.total(), len(unknown), len(survived) - len(unknown))
    for module, found, missed, same in [*counts, total]:
        lines.append(f"| {module} | {found} | {missed} | {same} | {found / max(1, found + missed):.1%} |")
    missed_ones = [f"- `{mutant}`" for mutant in sorted(unknown)]
    return "\n".join([*lines, *(["", "Not noticed:", "", *missed_ones] if missed_ones else [])])


def _counts(module: str, survived: list[Mutant], unknown: list[Mutant]) -> tuple[int, int]:
    missed = sum(mutant.module == module for mutant in unknown)
    return missed, sum(mutant.module == module for mutant in survived) - missed


def _outcomes(due: tuple[str, list[str], int | None]) -> list[tuple[Mutant, bool]]:
    """Each change of a module, and whether the tests notice it; the tests and the sample's size are given."""
    module, tests, sample = due
    code = (ROOT / "src" / "compoundnet" / module).read_text(encoding="utf-8")
    mutants = list(_mutants(module, code))
    if sample is not None:
        mutants = random.Random(0).sample(mutants, min(sample, len(mutants)))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "site", "build", "__pycache__"))
        return list(_tried(tree, mutants, module, tests))


def _tried(tree: Path, mutants: list[Mutant], module: str, tests: list[str]) -> Iterator[tuple[Mutant, bool]]:
    path = tree / "src" / "compoundnet" / module
    code = path.read_text(encoding="utf-8")
    source, state = _digest([path]), _digest([path, *(tree / "tests" / test for test in tests)])
    log = ROOT / "build" / "mutants" / f"{module.replace('/', '.')}.json"
    log.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = json.loads(log.read_text(encoding="utf-8")) if log.exists() else {}
    longest = None
    for number, mutant in enumerate(mutants, 1):
        key = " ".join(map(str, mutant[1:3]))
        before = known.get(key)
        # What was noticed stays so while the module is the same; what was not, while the tests are the same too.
        if before is None or before[0] != source or (not before[2] and before[1] != state):
            longest = longest or _longest(tree, tests)
            operator = get_operator(f"core/{mutant.operator}")()
            path.write_text(mutate_code(code, operator, mutant.occurrence), encoding="utf-8")
            found = not _passes(tree, tests, longest)
            path.write_text(code, encoding="utf-8")
            known[key] = before = [source, state, found]
            written = log.with_suffix(".part")
            written.write_text(json.dumps(known), encoding="utf-8")
            written.replace(log)
            print(f"{number} of {len(mutants)}: {mutant}: {'noticed' if found else 'NOT noticed'}", file=sys.stderr)
        yield mutant, before[2]


def _longest(tree: Path, tests: list[str]) -> float:
    """Seconds after which tests count as failed, since a change may loop forever."""
    begun = time.monotonic()
    assert _passes(tree, tests, _SECONDS, bytecode=True), f"{', '.join(tests)} fail without a change"
    return 30 + 5 * (time.monotonic() - begun)


def _mutants(module: str, code: str) -> Iterator[Mutant]:
    nodes, lines = list(ast_nodes(get_ast(code))), code.splitlines()
    for name in _OPERATORS:
        operator, seen = get_operator(f"core/{name}")(), Counter[str]()
        places = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (row, _) in enumerate(places):
            line = lines[row - 1].strip()
            seen[line] += 1
            if line.startswith("class ") or line == "*,":  # the options of a struct; no product, but a marker
                continue
            yield Mutant(module, name, occurrence, row, line, seen[line])


def _passes(tree: Path, tests: list[str], seconds: float, *, bytecode: bool = False) -> bool:
    """Whether the tests pass within a time, in a fork of this process; `bytecode`: of a tree without a change, whose
    compiled files are kept for the runs to come."""
    process = os.fork()
    if process == 0:
        _test(tree, tests, bytecode)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def _test(tree: Path, tests: list[str], bytecode: bool) -> None:
    os.setsid()
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.chdir(tree)
        places = [str(tree / "src"), str(tree / "tests" / "support"), str(tree)]
        os.environ["PYTHONPATH"] = os.pathsep.join(places)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        # A file that is changed twice in a second would be taken for its compiled form.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "" if bytecode else "1"
        sys.dont_write_bytecode = not bytecode
        sys.path[:0] = places
        import pytest  # noqa: PLC0415  imported already

        known = "ignore::pytest.PytestAssertRewriteWarning"  # of the libraries that are imported already
        # What noticed the change before is likely to notice this one.
        words = ["-x", "-q", "--failed-first", "-W", known, *(f"tests/{test}" for test in tests)]
        code = int(pytest.main(words))
    finally:
        os._exit(code)


def _digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
