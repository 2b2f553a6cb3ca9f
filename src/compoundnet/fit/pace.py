"""How fast this machine is at the moment, by one network that is timed beside every candidate.

Other work on a shared machine slows networks for seconds or minutes: on two virtual cores Lite0 took 0.7 to 1.2 ms at
40 px within an hour, and a candidate that was timed in the slow part missed the limit that it meets. Both networks are
slowed alike, so that the time of one corrects that of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from compoundnet.fit.candidates import Candidate
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.ways import noise, rounds_within
from compoundnet.runtime import Embedder
from compoundnet.runtime.timing.rounds import time_rounds

# The machine is as fast as before if a network takes less than this times as long: other work explains less.
_SAME = 1.15
# Networks are not slowed quite alike: corrected times are so many times what the reference says.
_MARGIN = 1.05
# The milliseconds that calls of the reference are to cover, and how often a time is taken at the most, where the
# machine changed meanwhile.
_WINDOW, _REPEATS = 50.0, 2


class Reference(msgspec.Struct, frozen=True):
    """The network beside which candidates are timed.

    Attributes:
        candidate: The network, which is timed in float32 on ONNX Runtime.
        latency: Its milliseconds when this machine was at its fastest.
    """

    candidate: Candidate
    latency: float


class Pace:
    """Times as if this machine were always as fast as it was at its fastest.

    Args:
        run: Runs the reference on one image.
        candidate: The reference.
        latency: Its milliseconds in an earlier call; None: it is timed now.

    Attributes:
        reference: The reference, with its time at the fastest.
        slowest: How many times slower the machine was at the most.
    """

    def __init__(self, run: Callable[[], object], candidate: Candidate, latency: float | None = None) -> None:
        self._run = run
        self.reference = Reference(candidate, self._now() if latency is None else latency)
        self.slowest = 1.0

    def time(self, latency: Callable[[], float]) -> float:
        """Return the milliseconds that a function measures, less what this machine is slower now.

        If it turns out to be faster than ever before, `reference` changes, and all earlier times are too long.
        """
        for _ in range(_REPEATS):
            before, found, after = self._now(), latency(), self._now()
            if max(before, after) <= _SAME * min(before, after):
                break
        now = (before + after) / 2
        if _SAME * now < self.reference.latency:
            self.reference = msgspec.structs.replace(self.reference, latency=now)
        slower = now / self.reference.latency
        if slower <= _SAME:
            return found
        self.slowest = max(self.slowest, slower)
        return found * _MARGIN / slower

    def _now(self) -> float:
        calls = {"": self._run}
        return time_rounds(calls, runs=rounds_within(calls, _WINDOW), warm_up=0)[""].median


def begin_pace(
    candidates: Sequence[Candidate], starts: StartingModels, limit: float, threads: int, known: Reference | None
) -> Pace:
    """Return a pace by a candidate that takes about as long as the limit, since small networks are slowed more.

    Args:
        candidates: Those of unchanged width and depth.
        starts: Opens their models.
        limit: The limit of latency, milliseconds.
        threads: Threads of the network.
        known: The reference of an earlier call.
    """

    def run_of(candidate: Candidate) -> Callable[[], object]:
        model, side = starts(candidate), candidate.resolution
        run = Embedder(model.at_resolution(side)).open(threads)
        image = noise(side)
        return lambda: run(image)

    if known is not None and known.candidate.model in starts.opened:
        return Pace(run_of(known.candidate), known.candidate, known.latency)
    least = min(candidates, key=lambda one: one.macs)
    pace = Pace(run_of(least), least)
    within = limit / pace.reference.latency * least.macs
    fitting = [one for one in candidates if one.model == least.model and one.macs <= within]
    largest = max(fitting, default=least, key=lambda one: one.macs)
    return pace if largest == least else Pace(run_of(largest), largest)
