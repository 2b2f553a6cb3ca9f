"""`python tools/chaos.py --kills 200 [--seed N] [--only NAME]`: commands meet faults at random moments, and run again.

Prints a JSON document; exit code 1 if anything was lost. `make chaos` runs it; docs/laboratory.md has the outcome.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from chaos import FAULTS, SCENARIOS, Chaos, Kill, as_json


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the name of one command")
    asked = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if asked.only in (None, scenario.name)]
    pairs = itertools.cycle(itertools.product(FAULTS, chosen))
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), asked.seed)
        for fault, scenario in itertools.islice(pairs, asked.kills):
            kills.append(chaos.kill(scenario, fault))
            last = kills[-1]
            print(f"{len(kills)}: {last.scenario}, {fault} at {last.moment:.0%}: {last.lost or 'ok'}", file=sys.stderr)
    print(as_json(kills))
    return 1 if any(kill.lost for kill in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
