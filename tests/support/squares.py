"""A list of trials whose values are the squares of their positions, and workers that are killed at chosen moments.

`squares.py PLACE LOG [DEATH]` makes the study "squares" where there is none and works on it. PLACE is a folder or a
PostgreSQL URL, LOG a file that gets a line for each trial that was judged to its end. DEATH is the moment at which the
worker kills itself with SIGKILL, in its third trial: "taken", "marked", "judging" or "judged".
The first two may be in another trial, of number CALL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import optuna
from optuna.trial import FrozenTrial

from compoundnet.trials import OpenedStudy, PointList, create_study, work
from compoundnet.trials.database import Heartbeat, is_url
from compoundnet.trials.positions import Presence
from compoundnet.trials.settings import position

COUNT = 12


class Squares(PointList, frozen=True, tag_field="kind", tag="squares"):
    count: int = COUNT

    def params(self) -> list[dict[str, float]]:
        return [{"x": number} for number in range(self.count)]


class SquareJudge:
    def __init__(self, log: Path, death: str = "", seconds: float = 0.0) -> None:
        self._log, self._death, self._seconds = log, death, seconds

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        number = position(trial)
        if self._death == "judging" and number >= 2:
            die()
        time.sleep(self._seconds)
        with self._log.open("a") as log:
            log.write(f"{number}\n")
        trial.set_user_attr("judged", True)
        if self._death == "judged" and number >= 2:
            die()
        return (float(number**2),)

    def describe(self, trial: FrozenTrial) -> str:
        return f"{position(trial)} squared is {trial.values[0]:g}"


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not killed")


def made(place: str | Path, folder: Path, heartbeat: Heartbeat | None = None) -> OpenedStudy[Squares]:
    """The study of the squares in a folder, or, given a URL, on a server."""
    return create_study(Squares(), "no data", folder, str(place) if is_url(place) else None, heartbeat=heartbeat)


def main() -> None:
    place, log, *rest = sys.argv[1:]
    death = rest[0] if rest else ""
    folder = Path(log).parent / "squares" if is_url(place) else Path(place)
    opened = made(place, folder, Heartbeat(1, 3))
    mark, calls, call = Presence.mark, [0], int(os.environ.get("CALL", "3"))

    def marking(presence: Presence, trial: optuna.Trial) -> None:
        calls[0] += 1
        if death == "taken" and calls[0] == call:
            die()
        mark(presence, trial)
        if death == "marked" and calls[0] == call:
            die()

    Presence.mark = marking  # type: ignore[method-assign, assignment]  # the moments just before and after it
    judge = SquareJudge(Path(log), death, float(os.environ.get("SECONDS", "0")))
    work(opened, judge, notify=lambda text: print(text, flush=True))
    opened.close()


if __name__ == "__main__":
    main()
