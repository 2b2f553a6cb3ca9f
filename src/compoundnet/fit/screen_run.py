"""The screen of all candidates, one after the other, until the time is up; it goes on where an earlier one ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.fit.candidates import (
    FLOAT,
    Candidate,
    find_candidates,
    measured,
    scaled_candidates,
    smallest_candidate,
    smallest_model,
    wide_enough,
)
from compoundnet.fit.images import left_out, without
from compoundnet.fit.job import FitJob
from compoundnet.fit.pace import Pace, begin_pace
from compoundnet.fit.screen import Screened, screen
from compoundnet.fit.state import Fit
from compoundnet.fit.ways import SCREENED, compare_ways, faster_way, network_latency, other_ways
from compoundnet.runtime import Embedder

# A candidate is not timed if another resolution of its model predicts more than this times the limit.
_HOPELESS = 1.5
# What exceeds the budget by no more than this is judged too: what a little more budget would bring.
MORE = 1.1
# No way to compute a network is so many times as fast as the first.
_FASTEST = 4
# How many times over the limit the network is whose ways are compared: where another way meets it.
_BETWEEN = 1.6
# How many of what exceeds the budget by little are judged.
_BEYOND = 2


class ScreenRun:
    """Screens candidates.

    Args:
        job: What the fit was asked for.
        state: The state of the fit.
        chosen: The resolution that training would choose for each model.
        until: The time, by `time.monotonic`, after which no further candidate is screened once there is an answer;
            None: all are.
        first: Called with the state and each candidate that fits, until it returns a state with a first answer.
        keep: Called with the state after each candidate.

    Attributes:
        stopped: Whether Ctrl-C ended the screen, after something fitted.
    """

    def __init__(
        self,
        job: FitJob,
        state: Fit,
        chosen: Mapping[str, int],
        until: float | None,
        first: Callable[[Fit, Screened], Fit],
        keep: Callable[[Fit], object],
    ) -> None:
        self._state, self._starts, self._chosen = state, job.starts, chosen
        self._dataset = without(job.dataset, state.unreadable)
        self._until, self._first, self._keep = until, first, keep
        self._progress, self._notify = job.progress, job.notify
        self._known = {one.candidate: one for one in state.screened if one.accuracy is not None}
        self._found: list[Screened] = []
        # For each shape of a model the multiply-adds that were timed in float32, with the milliseconds.
        self._timed: dict[str, dict[int, float]] = {}
        self._left, self.stopped = 0, False
        self._pace: Pace | None = None
        self._whole: list[Candidate] = []  # of which one is the reference of the pace
        self._again: list[Candidate] = []  # dropped while the machine was slower, and not too slow for it as it is now

    def run(self) -> Fit:
        """Screen, and return the state with all candidates and the reasons of those that were dropped.

        Raises:
            CompoundNetError: Nothing fits; the message says what comes nearest, and what it would take.
        """
        limits, classes = self._state.limits, len(self._dataset.classes)
        candidates = find_candidates(self._starts.opened, self._chosen, classes, limits)
        over = [Screened(candidate, dropped=excess) for candidate, excess in candidates if excess is not None]
        fitting = [candidate for candidate, excess in candidates if excess is None]
        if not fitting:
            least = smallest_candidate(self._starts.opened, self._chosen, classes, limits)
            instead = f" in place of the bounds of {limits.device}" if limits.device else ""
            raise CompoundNetError(
                f"nothing fits {limits.text()}: the smallest network that can be tried is {least}, whose"
                f" {least.exceeds(limits)}; {least.admitted_by(limits)} would admit it{instead}"
            )
        self._whole = [one for one in fitting if not one.scaled] or fitting.copy()
        # Latencies are those in float32 on ONNX Runtime: what is deployed in no such way needs the ratio beforehand.
        other = self._state.format != SCREENED or any(one.precision != FLOAT for one in fitting)
        if limits.max_latency is not None and other and not self._state.ratios:
            self._compare(self._next(fitting))
        slow: list[Candidate] = []
        try:
            self._all(fitting, slow)
        except KeyboardInterrupt:  # as while the first answer is written
            self._stop()
            self._all(fitting, slow)  # what an earlier call has judged is kept
        if limits.max_latency is not None and not any(wide_enough(one.candidate, self._chosen) for one in self._fits()):
            self._screen_narrower(limits.max_latency)
            self._all([], [])
        if not self._fits():
            self._time_fastest()
            self._all([], [])
        if not self._fits():
            self._raise_too_slow()
        beyond = self._beyond(over)
        self._all([], [])
        self._found += beyond
        if self._pace is not None and self._pace.slowest > 1:
            said = (
                f"this machine was up to {self._pace.slowest:.1f} times slower while candidates were timed than at its"
                f" fastest: their times are corrected by that of {self._pace.reference.candidate}"
            )
            self._notify(said)
            self._state = self._state.noted(said, passing=True)
        if self._left:
            one = self._left == 1
            self._notify(f"{self._left} candidate{' is' if one else 's are'} not screened; the same command goes on")
        return self._updated()

    def _all(self, fitting: list[Candidate], slow: list[Candidate]) -> None:
        """Screen candidates, those that are too `slow` in another way, and again those that were dropped while the
        machine was slower; both lists are empty afterwards."""
        while fitting or slow or self._again:
            fitting += self._again
            self._again.clear()
            if fitting:
                candidate = self._next(fitting)
                self._one(candidate)
                fitting.remove(candidate)
                slow.append(candidate)
            # Another precision has to be exported, which takes a while: a first answer goes before.
            if not fitting or self._state.answer is not None:
                self._faster(slow)

    def _next(self, candidates: list[Candidate]) -> Candidate:
        """The most promising; until there is an answer, the most promising of those that are not predicted too slow."""
        limit = self._state.limits.max_latency
        if self._state.answer is not None or limit is None:
            return candidates[0]
        return next((one for one in candidates if self._predicted(one) <= limit), candidates[0])

    def _fits(self) -> list[Screened]:
        return [one for one in self._found if one.fits]

    def _updated(self) -> Fit:
        found = list({one.candidate: one for one in self._found}.values())
        return msgspec.structs.replace(self._state, screened=tuple(found), left=self._left)

    @property
    def _time_is_up(self) -> bool:
        late = self._until is not None and time.monotonic() > self._until
        # Whatever the time: an answer first.
        return self.stopped or (late and self._state.answer is not None)

    def _one(self, candidate: Candidate, *, late: bool = False) -> None:
        """Screen a candidate, if there is time; with `late` also if there is none."""
        limit = self._state.limits.max_latency
        if candidate in self._known:
            one = self._known[candidate].under(limit)
        elif self._time_is_up and not late:
            self._left += 1
            return
        elif limit is not None and (predicted := self._predicted(candidate)) > _HOPELESS * limit:
            one = Screened(candidate, dropped=f"predicted to take {predicted:.3g} ms, more than {limit:g} ms")
        else:
            screened = self._screened(candidate, MORE)
            if screened is None:
                self._left += 1
                return
            one = screened
        self._add(one)

    def _add(self, one: Screened) -> None:
        candidate = one.candidate
        if one.accuracy is not None:
            self._known[candidate] = one
        if one.latency is not None:
            ratio = self._state.ratios.get(candidate.way, 1.0)
            self._timed.setdefault(candidate.shape, {})[candidate.macs] = one.latency / ratio
        self._found.append(one)
        self._state = self._updated()
        self._keep(self._state)
        if one.fits and self._state.answer is None and not self.stopped:
            self._state = self._first(self._state, one)

    def _screened(self, candidate: Candidate, reach: float) -> Screened | None:
        """The result of a candidate; None if Ctrl-C ended it."""
        try:
            one, unreadable = screen(
                candidate, self._dataset, self._starts(candidate), self._state.limits,
                timed=self._latency, ratios=self._state.ratios, reach=reach,
                progress=self._progress, notify=self._notify,
            )  # fmt: skip
        except KeyboardInterrupt:
            self._stop()
            return None
        self._notify(str(one))
        if unreadable:
            self._leave_out(unreadable)
        return one

    def _latency(self, embedder: Embedder) -> float:
        """Milliseconds of a network, as if the machine were at its fastest."""
        limit, threads = self._state.limits.max_latency, self._state.threads
        if limit is None:
            return network_latency(embedder, threads)
        if self._pace is None:
            self._pace = begin_pace(self._whole, self._starts, limit, threads, self._state.reference)
        before = self._pace.reference.latency
        found = self._pace.time(lambda: network_latency(embedder, threads))
        self._state = msgspec.structs.replace(self._state, reference=self._pace.reference)
        if self._pace.reference.latency < before:
            self._correct(self._pace.reference.latency / before, limit)
        return found

    def _correct(self, factor: float, limit: float) -> None:
        """Correct what was timed before the machine was as fast as now."""
        for timed in self._timed.values():
            timed.update({macs: latency * factor for macs, latency in timed.items()})

        def corrected(one: Screened) -> Screened:
            if one.latency is None:
                return one
            return msgspec.structs.replace(one, latency=one.latency * factor).under(limit)

        def is_hopeful(one: Screened) -> bool:
            if one.accuracy is not None:
                return False
            if one.latency is None:
                return self._predicted(one.candidate) <= _HOPELESS * limit
            return one.latency <= MORE * limit

        self._known = {candidate: corrected(one) for candidate, one in self._known.items()}
        found = [corrected(one) for one in self._found]
        self._again += [one.candidate for one in found if is_hopeful(one)]
        self._found = [one for one in found if not is_hopeful(one)]

    def _stop(self) -> None:
        """End the screen at Ctrl-C, and the whole fit if nothing fits yet."""
        if not self._fits():
            raise KeyboardInterrupt
        self.stopped = True
        self._notify("stopped; finishing with the best so far")

    def _leave_out(self, unreadable: tuple[str, ...]) -> None:
        """Go on without the training images that cannot be read."""
        state = msgspec.structs.replace(self._state, unreadable=(*self._state.unreadable, *unreadable))
        self._state = state.noted(left_out(unreadable, "training"))
        self._dataset = without(self._dataset, unreadable)

    def _predicted(self, candidate: Candidate) -> float:
        """Milliseconds, by other resolutions of the model; 0 if none was timed."""
        timed = self._timed.get(candidate.shape, {})
        if not timed:
            return 0.0
        # Between two that were timed on the line through them, since some of a small network's time is not that of its
        # multiply-adds; beyond them in proportion to the nearest.
        known, macs = sorted(timed), candidate.macs
        nearest = min(max(macs, known[0]), known[-1])
        float32 = float(np.interp(nearest, known, [timed[one] for one in known])) * macs / nearest
        return float32 * self._state.ratios.get(candidate.way, 1.0)

    def _faster(self, candidates: list[Candidate]) -> None:
        """Screen those that are too slow in the way in which they may be fast enough, and empty the list."""
        limit, owed = self._state.limits.max_latency, False
        slow = {} if limit is None else self._slow(candidates, limit)
        candidates.clear()
        if limit is None:
            return
        middle = _BETWEEN * limit
        for candidate, latency in slow.items():
            if not self._state.ratios and other_ways(self._state.format):
                if self._time_is_up:  # which of them another way makes fast enough is not known
                    self._left += len(slow)
                    break
                self._compare(min(slow, key=lambda one: abs(math.log(slow[one] / middle))))
                if self.stopped:
                    self._left += len(slow)
                    break
                owed = True  # one candidate, or comparing was for nothing
            as_screened = latency / self._state.ratios.get(candidate.way, 1.0)
            faster = faster_way(candidate, as_screened, limit, self._state.ratios)
            if faster is not None:
                self._one(faster, late=owed)
                owed = False

    def _slow(self, candidates: list[Candidate], limit: float) -> dict[Candidate, float]:
        """The milliseconds in float32 of those that are too slow in it, but might not be in another way."""
        found = {one.candidate: one for one in self._found if not one.fits}
        times = {
            candidate: latency if (latency := found[candidate].latency) is not None else self._predicted(candidate)
            for candidate in candidates
            if candidate in found and candidate.precision == FLOAT
        }
        return {candidate: latency for candidate, latency in times.items() if 0 < latency <= _FASTEST * limit}

    def _compare(self, candidate: Candidate) -> None:
        state = self._state
        try:
            model = self._starts(candidate)
            ratios = compare_ways(model, candidate.resolution, self._dataset, state.format, state.threads)
        except KeyboardInterrupt:
            self._stop()
            return
        self._state = msgspec.structs.replace(state, ratios=ratios)
        named = ", ".join(f"{way.strip()} takes {ratio:.2f} times the time" for way, ratio in ratios.items())
        self._notify(f"{candidate}: {named}")

    def _screen_narrower(self, limit: float) -> None:
        """Screen networks scaled down until they are predicted to meet the limit of latency.

        The first is predicted by the model at its lowest resolution, at which much of the time is that of reading its
        weights; the others by the first, which has fewer. Lite0 computes 5 million multiply-adds in a millisecond at
        32 px, and 10 at 96 px with a seventh of its width.
        """
        timed = self._timed.get(smallest_model(self._starts.opened))
        if not timed:
            return
        least = min(timed)
        first = next(iter(self._narrower(limit * least / timed[least])), None)
        if first is None:
            return
        self._one(first)
        took = self._timed.get(first.shape, {}).get(first.macs)
        for candidate in self._narrower(limit * (first.macs / took if took else least / timed[least])):
            if candidate != first:
                self._one(candidate)

    def _narrower(self, macs: float) -> list[Candidate]:
        """Networks scaled down to so many multiply-adds, and to the exact bounds."""
        bounded = msgspec.structs.replace(self._state.limits, max_macs=macs)
        if self._state.limits.max_macs is not None:
            bounded = bounded.within(self._state.limits)
        return scaled_candidates(self._starts.opened, self._chosen, len(self._dataset.classes), bounded)

    def _time_fastest(self) -> None:
        """Time what is predicted to be the fastest, so that what is said to come nearest does."""
        untimed = [one.candidate for one in self._found if one.latency is None]
        if not untimed:
            return
        fastest = min(untimed, key=self._predicted)
        one = self._screened(fastest, MORE)
        if one is not None:
            self._found = [other for other in self._found if other.candidate != fastest]
            self._add(one)

    def _raise_too_slow(self) -> None:
        timed = [one for one in self._found if one.latency is not None]
        limits = self._state.limits
        if not timed:
            raise CompoundNetError(f"nothing fits {limits.text()}: every candidate was predicted to be too slow")
        nearest = min(timed, key=lambda one: one.latency or 0.0)
        assert nearest.latency is not None
        raise CompoundNetError(
            f"nothing fits {limits.text()}: the fastest that was timed, {nearest.candidate}, takes"
            f" {nearest.latency:.3g} ms; --max-latency {math.ceil(10 * MORE * nearest.latency) / 10:g}ms would admit it"
        )

    def _beyond(self, over: list[Screened]) -> list[Screened]:
        """The candidates that exceed the exact bounds, of which some are judged: what is just beyond the budget, and
        where a race follows what is the best of each model without a budget, which may teach."""
        near = [one for one in over if one.candidate.exceeds(self._state.limits.times(MORE)) is None]
        near = sorted(near, key=lambda one: -one.candidate.macs)[:_BEYOND]
        wanted = [one.candidate for one in near]
        if self._until is not None and not self._dataset.multilabel:
            wanted += [self._unbounded(name) for name in self._starts.opened]
        judged = {one.candidate for one in self._found if one.accuracy is not None}
        found = {one.candidate: one for one in over}
        for candidate in dict.fromkeys(wanted):
            if candidate in judged or candidate.in_precision("int8") in judged:
                continue
            known = self._known.get(candidate)
            if known is None and not self._time_is_up:
                known = self._screened(candidate, math.inf)
            if known is not None:
                limit = self._state.limits.max_latency
                dropped = candidate.exceeds(self._state.limits) or known.under(limit).dropped
                found[candidate] = msgspec.structs.replace(known, dropped=dropped)
        self._found = [one for one in self._found if one.candidate not in found or one.accuracy is not None]
        return [one for one in found.values() if one.candidate not in judged]

    def _unbounded(self, name: str) -> Candidate:
        model = self._starts.opened[name]
        return measured(name, model.network, self._chosen[name], len(self._dataset.classes))
