"""The entry to a race: which candidates may start, and the plan that fits the time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset
from compoundnet.fit.candidates import FLOAT, Candidate, way_key
from compoundnet.fit.ending import seconds_after_race
from compoundnet.fit.job import FitJob
from compoundnet.fit.limits import SAFE
from compoundnet.fit.race_plan import (
    ENTRANTS,
    RacePlan,
    by_promise,
    effective_images,
    estimate_all,
    largest_of_equal,
    least_seconds,
    plan_in_time,
    with_raise,
)
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Fit
from compoundnet.fit.trainings import HELD_OUT, LEAST_HELD_OUT, Trainings, held_out_alone
from compoundnet.fit.ways import compare_ways, faster_way
from compoundnet.train import find_recipe
from compoundnet.train.balance import choose_balance

# The candidates of which some start.
_MOST = 2 * ENTRANTS


class NoRaceError(Exception):
    """Why there is no fine-tuned answer; `state` is that of the fit so far."""

    def __init__(self, state: Fit, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Entry:
    """Chooses the entrants of a race.

    Args:
        job: What the fit was asked for, with a limited time.
        dataset: The data, without the images that cannot be read.
        state: The state of the fit.

    Attributes:
        state: The state, with what was said, and with entrants in another way than that of the screen.
    """

    def __init__(self, job: FitJob, dataset: Dataset, state: Fit) -> None:
        self._job, self._dataset, self.state = job, dataset, state

    def promising(self) -> list[Screened]:
        """Return the candidates in the order in which they would race, each in the precision in which it ranks highest.

        What is close to the limit of latency may miss it in the end, when it has been trained. Where an accuracy
        suffices and a probe reaches it, only what is faster than that may be better.

        Raises:
            NoRaceError: The time is up, or nothing may be better.
        """
        state = self.state
        if self._most_left(state.ranking) <= 0:
            raise NoRaceError(state, "the time is up")
        ranked = list({one.candidate.key: one for one in reversed(self._safe())}.values())[::-1]
        close = len({one.candidate.key for one in state.ranking}) - len(ranked)
        if close:
            self._say(
                f"{close} candidate{'s' * (close != 1)} within {1 - SAFE:.0%} of --max-latency"
                f" {'are' if close != 1 else 'is'} not fine-tuned: the deployed file might miss it"
            )
        if self._few:
            self._say(
                f"{round(HELD_OUT * len(self._dataset.split('train')))} held-out training images are too few to choose"
                " between fine-tuned candidates, so one is trained alone"
            )
        if len(ranked) > _MOST:
            self._say(f"of {len(ranked)} candidates that fit, the {_MOST} that rank highest may be fine-tuned")
        if state.limits.min_accuracy is not None:
            ranked = self._faster_than_enough(ranked)
        if not self._few or state.limits.min_accuracy is not None:
            return ranked[:_MOST]
        train = self._dataset.split("train")
        balance = choose_balance(find_recipe("probe"), train)[0].balance
        assert balance != "auto"
        return largest_of_equal(ranked, effective_images(train, balance))[:_MOST]

    def _faster_than_enough(self, ranked: list[Screened]) -> list[Screened]:
        best, wanted = self.state.ranking[0], self.state.limits.min_accuracy
        assert wanted is not None
        if (best.accuracy or 0.0) < wanted:
            return ranked
        faster = [one for one in ranked if (one.latency or 0.0) < (best.latency or 0.0)]
        if not faster:
            raise NoRaceError(self.state, f"{best.candidate} reaches {wanted:.1%} as a probe, and nothing faster fits")
        return faster

    def _safe(self) -> list[Screened]:
        """What is not close to the limit of latency in the fastest way in which it may be deployed, or all that fits if
        nothing is."""
        state, limit = self.state, self.state.limits.max_latency
        if limit is None:
            return state.ranking
        # What is screened in float32 is deployed in another way if it misses the limit in that.
        float32 = way_key("", FLOAT)
        whole = state.ratios.get(float32, 1.0)
        fastest = min([whole, *state.ratios.values()]) / whole
        safe = [
            one
            for one in state.ranking
            if (fastest if one.candidate.way == float32 else 1.0) * (one.latency or 0.0) <= SAFE * limit
        ]
        return safe or state.ranking

    @property
    def _few(self) -> bool:
        """Whether the held-out images are too few to choose between candidates."""
        return HELD_OUT * len(self._dataset.split("train")) < LEAST_HELD_OUT

    def planned(self, trainings: Trainings, promising: Sequence[Screened]) -> RacePlan:
        """Return the race of an earlier call, so that this one goes on with its trainings, or a new one.

        An entrant in another way than the screen's is timed in it before, since its latency was only predicted. If it
        is too slow, it may enter in a faster way, which is then among the candidates of the state.

        Raises:
            NoRaceError: There is no time for one, no candidate is fast enough, or the images are too few.
        """
        before = self._planned_before(promising)
        if before is not None:
            return before
        costs = self._costs(trainings, promising)
        if self._in_time(promising, costs) is None:
            # An estimate comes from about a second of timing, which other work on the machine only lengthens.
            again = self._costs(trainings, promising)
            costs = {one: min(cost, again[one]) for one, cost in costs.items()}
        timed: set[Candidate] = set()
        while promising:
            plan = self._in_time(promising, costs)
            if plan is None:
                cost, left = min(costs[one.candidate] for one in promising), max(0.0, self._most_left(promising))
                least = least_seconds(cost, held_out_alone(len(self._dataset.split("train"))))
                raise NoRaceError(
                    self.state,
                    f"fine-tuning would take at least {format_duration(least)}, and {format_duration(left)} are left of"
                    " --time",
                )
            entering = set(plan.entrants) - timed
            predicted = [one for one in promising if one.candidate in entering and _is_predicted(one, self.state)]
            if not predicted:
                return plan
            entrant = predicted[0]
            timed.add(entrant.candidate)
            if self._is_fast(entrant, alone=len(promising) == 1):
                continue
            faster = _in_faster_way(entrant, self.state)
            rest = [one for one in promising if one is not entrant]
            if faster is not None:
                self._say(f"{faster.candidate} is timed in its place")
                costs[faster.candidate] = costs[entrant.candidate]
                rest.insert(promising.index(entrant), faster)
                self.state = _with(self.state, faster)
            promising = rest
        raise NoRaceError(
            self.state, "every candidate takes longer than --max-latency when it is timed in its precision"
        )

    def _planned_before(self, promising: Sequence[Screened]) -> RacePlan | None:
        """The race of an earlier call, if this one goes on with it and all its candidates are still there."""
        by_key, plan = {one.candidate.key: one for one in promising}, self.state.plan
        seconds = self._job.seconds
        if plan is None or seconds is None or not self.state.goes_on(seconds, self._job.seed):
            return None
        if not {one.key for one in plan.entrants} <= set(by_key):
            return None
        for candidate in plan.entrants:  # one may have entered in a faster way than that of the screen
            self.state = _with(self.state, _in_way(by_key[candidate.key], candidate, self.state))
        return plan

    def _costs(self, trainings: Trainings, promising: Sequence[Screened]) -> dict[Candidate, float]:
        """About the seconds of the training of each candidate."""
        try:
            return dict(estimate_all(trainings, [one.candidate for one in promising]))
        except CompoundNetError as error:  # too few images to hold some out
            raise NoRaceError(self.state, str(error)) from error

    def until(self, entrants: Sequence[Candidate]) -> float:
        """Return the time, by `time.time`, at which the trainings of entrants are to end, so that the answer is there
        in time whichever wins."""
        return self._until([one for one in self.state.screened if one.candidate in entrants])

    def _until(self, entrants: Sequence[Screened]) -> float:
        return self._job.deadline - max(seconds_after_race(one, self.state, self._job.dataset) for one in entrants)

    def _left(self, entrants: Sequence[Screened]) -> float:
        """Seconds for the trainings of entrants."""
        return self._until(entrants) - time.time()

    def _most_left(self, promising: Sequence[Screened]) -> float:
        """Seconds for the training of the candidate whose end takes least."""
        return max(self._left([one]) for one in promising)

    def _in_time(self, promising: Sequence[Screened], costs: Mapping[Candidate, float]) -> RacePlan | None:
        """The race that promises the most in the time that is left; None if there is none.

        A candidate in int8 leaves less of it, so that without one there may be a longer race.
        """
        plan = self._best_race(promising, costs)
        whole = [one for one in promising if one.candidate.precision == FLOAT]
        if not whole or (plan is not None and any(one.precision != FLOAT for one in plan.entrants)):
            return plan
        return self._best_race(whole, costs)

    def _best_race(self, promising: Sequence[Screened], costs: Mapping[Candidate, float]) -> RacePlan | None:
        left, images = self._left(promising), len(self._dataset.split("train"))
        if self.state.limits.min_accuracy is not None:  # their order alone counts
            accuracies = [0.0] * len(promising)
        else:
            raised = with_raise(promising)
            promising = promising if self._few else by_promise(promising)
            accuracies = [raised[one.candidate] for one in promising]
        costed = [(one.candidate, costs[one.candidate]) for one in promising]
        most = 1 if self._few else ENTRANTS
        return plan_in_time(costed, accuracies, left, self._job.workers, most, held_out_alone(images))

    def _is_fast(self, one: Screened, *, alone: bool) -> bool:
        """Time a candidate in its way, say so, and return whether it meets the limit of latency: not closely, unless
        none else is left."""
        state, candidate, limit = self.state, one.candidate, self.state.limits.max_latency
        assert one.latency is not None and limit is not None
        way = (candidate.backend, candidate.precision)
        model, side = self._job.starts(candidate), candidate.resolution
        try:
            (ratio,) = compare_ways(model, side, self._dataset, state.format, state.threads, [way]).values()
        except CompoundNetError as error:
            self._say(f"{candidate} is not fine-tuned: {error}")
            return False
        latency = one.latency / state.ratios[candidate.way] * ratio
        fast = latency <= (limit if alone else SAFE * limit)
        self._say(
            f"{candidate} timed: {latency:.3g} ms, {ratio:.2f} times that of the screen"
            f"{'' if fast else ', so it is not fine-tuned'}"
        )
        return fast

    def _say(self, text: str) -> None:
        self.state = self._job.told(self.state, text)


def _is_predicted(one: Screened, state: Fit) -> bool:
    """Whether the latency of a candidate is that in float32 on ONNX Runtime times a ratio."""
    return state.limits.max_latency is not None and one.candidate.way in state.ratios


def _in_faster_way(one: Screened, state: Fit) -> Screened | None:
    """A candidate in the next way that is predicted to be faster than its own, and to meet the limit of latency."""
    limit, ratios, candidate = state.limits.max_latency, state.ratios, one.candidate
    assert one.latency is not None and limit is not None
    as_screened = one.latency / ratios[candidate.way]
    faster = {way: ratio for way, ratio in ratios.items() if ratio < ratios[candidate.way]}
    found = faster_way(candidate, as_screened, SAFE * limit, faster)
    if found is None or found.exceeds(state.limits) is not None:
        return None
    return _in_way(one, found, state)


def _in_way(one: Screened, candidate: Candidate, state: Fit) -> Screened:
    """What the screen says of a candidate, in the way of another of the same network."""
    assert one.latency is not None
    ratio = state.ratios.get(candidate.way, 1.0) / state.ratios.get(one.candidate.way, 1.0)
    return msgspec.structs.replace(one, candidate=candidate, latency=ratio * one.latency)


def _with(state: Fit, one: Screened) -> Fit:
    """The state with a candidate among those that were screened."""
    known = any(other.candidate == one.candidate for other in state.screened)
    return state if known else msgspec.structs.replace(state, screened=(*state.screened, one))
