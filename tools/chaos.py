"""`python tools/chaos.py --kills 200 [--seed N] [--only NAME]`: commands meet faults at random moments, and run again.

Each kill is a line of build/chaos-SEED.jsonl, and those that are there already are not repeated. Writes a section of
benchmarks/RESULTS.md; exit code 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from chaos import SCENARIOS, Chaos, Kill, possible_faults, table
from results import write_section

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the name of one command")
    asked = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if asked.only in (None, scenario.name)]
    if not chosen:
        parser.error(f"--only must be one of: {', '.join(scenario.name for scenario in SCENARIOS)}")
    log = ROOT / "build" / f"chaos-{asked.seed}.jsonl"
    log.parent.mkdir(exist_ok=True)
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kills = {name: Kill(**kill) for name, kill in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder:
        rounds = itertools.count(asked.seed * 1_000_000)
        chaos = Chaos(Path(folder), asked.seed)
        due = ((turn, fault, scenario) for turn in rounds for fault in possible_faults() for scenario in chosen)
        for number, (turn, fault, scenario) in enumerate(itertools.islice(due, asked.kills), 1):
            name = f"{turn} {fault} {scenario.name}"
            if name not in kills:
                chaos.seed = turn
                kills[name] = chaos.kill(scenario, fault)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, kills[name]._asdict()]) + "\n")
            last = kills[name]
            print(f"{number}: {last.scenario}, {fault} at {last.moment:.0%}: {last.lost or 'ok'}", file=sys.stderr)
    lost = sum(bool(kill.lost) for kill in kills.values())
    ended = sum(kill.code != 0 for kill in kills.values())
    counts = f"{len(kills)} faults at random moments, of which {ended} ended the command; {lost} lost something"
    text = f"`make chaos`: {counts}.\n\n{table([*kills.values()])}"
    print(text)
    write_section("Kills and other faults", text)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
