"""`python tools/mutants.py [--only PART] [--sample N]`: changes the pure core in single places with cosmic-ray, and
counts what the tests notice.

Works in a copy of the tree. Prints each change that no test noticed, as tools/mutants.toml names it, and the share that
was noticed of those not listed as equivalent; exit code 1 if it is below 95 %.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LEAST = 0.95
# Of cosmic-ray's two hundred operators those that stand for slips: a sign, a comparison, `and` for `or`, a number.
_OPERATORS = (
    "core/ReplaceBinaryOperator_Add_Sub", "core/ReplaceBinaryOperator_Sub_Add", "core/ReplaceBinaryOperator_Mul_Add",
    "core/ReplaceBinaryOperator_Mul_Div", "core/ReplaceBinaryOperator_Div_Mul",
    "core/ReplaceBinaryOperator_FloorDiv_Div", "core/ReplaceBinaryOperator_Pow_Mul",
    "core/ReplaceComparisonOperator_Lt_LtE",
    "core/ReplaceComparisonOperator_LtE_Lt", "core/ReplaceComparisonOperator_Gt_GtE",
    "core/ReplaceComparisonOperator_GtE_Gt", "core/ReplaceComparisonOperator_Eq_NotEq",
    "core/ReplaceComparisonOperator_NotEq_Eq", "core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/NumberReplacer",
    "core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue",
)  # fmt: skip


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the path of the modules to change")
    parser.add_argument("--sample", type=int, help="so many changes, drawn at random")
    asked = parser.parse_args()
    settings = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text(encoding="utf-8"))
    equivalent: dict[str, str] = settings.get("equivalent", {})
    noticed, survived = 0, list[str]()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        left_out = shutil.ignore_patterns(".*", "site", "build", "__pycache__")
        shutil.copytree(ROOT, tree, ignore=left_out)
        for group in settings["groups"]:
            modules = [module for module in group["modules"] if asked.only in module]
            if modules:
                counted, left = _changed(tree, modules, group["tests"], asked.sample)
                noticed, survived = noticed + counted, survived + left
    unknown = [name for name in survived if name not in equivalent]
    for name in unknown:
        print(f"not noticed: {name}")
    share = noticed / max(1, noticed + len(unknown))
    print(f"{noticed} noticed, {len(unknown)} not ({share:.1%}); {len(survived) - len(unknown)} are equivalent")
    return 0 if share >= LEAST else 1


def _changed(tree: Path, modules: list[str], tests: list[str], sample: int | None) -> tuple[int, list[str]]:
    """The number of changes that the tests notice, and the names of the others."""
    session, config = tree / "mutants.sqlite", tree / "mutants.config.toml"
    session.unlink(missing_ok=True)
    words = " ".join(f"tests/{test}" for test in tests)
    paths = json.dumps([f"src/compoundnet/{module}" for module in modules])
    config.write_text(
        f"[cosmic-ray]\nmodule-path = {paths}\ntimeout = 300.0\nexcluded-modules = []\n"
        f'test-command = "{sys.executable} -m pytest -q -x -p no:cacheprovider {words}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n',
        encoding="utf-8",
    )
    tool = str(Path(sys.executable).with_name("cosmic-ray"))
    subprocess.run([tool, "init", config.name, session.name], cwd=tree, check=True)
    with sqlite3.connect(session) as database:
        specifications = database.execute("SELECT job_id, operator_name FROM mutation_specs ORDER BY job_id")
        jobs = [job for job, operator in specifications if operator in _OPERATORS]
        chosen = jobs if sample is None else random.Random(0).sample(jobs, min(sample, len(jobs)))
        database.execute("CREATE TEMP TABLE chosen AS SELECT value FROM json_each(?)", (json.dumps(chosen),))
        for table in ("mutation_specs", "work_items"):
            database.execute(f"DELETE FROM {table} WHERE job_id NOT IN (SELECT value FROM chosen)")
    subprocess.run([tool, "exec", config.name, session.name], cwd=tree, check=True)
    dumped = subprocess.run([tool, "dump", session.name], cwd=tree, check=True, capture_output=True, text=True).stdout
    results = [json.loads(line) for line in dumped.splitlines()]
    survived = [_name(job["mutations"][0]) for job, result in results if result["test_outcome"] == "survived"]
    return len(results) - len(survived), survived


def _name(mutation: dict[str, Any]) -> str:
    module = mutation["module_path"].removeprefix("src/compoundnet/")
    line, column = mutation["start_pos"]
    return f"{module} {line}:{column} {mutation['operator_name'].removeprefix('core/')} {mutation['occurrence']}"


if __name__ == "__main__":
    sys.exit(main())
