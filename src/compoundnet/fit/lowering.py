"""The lower resolutions at which a network that misses its budget in its final form may still meet it."""

from __future__ import annotations

from compoundnet.fit.candidates import in_fitting_precision, measured, resolutions_of
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Fit
from compoundnet.models import ModelFolder


def lower_resolutions(missed: Screened, start: ModelFolder, state: Fit, classes: int) -> list[Screened]:
    """Return a candidate at lower resolutions, the highest first, in the precision of the screen or in any that fits.

    Args:
        missed: The candidate that misses its budget.
        start: The model that it starts from.
        state: The state of the fit.
        classes: The number of classes.
    """
    candidate = missed.candidate
    known = {(one.candidate.shape, one.candidate.resolution): one for one in state.ranking}

    def at(side: int) -> Screened:
        own = measured(candidate.model, start.network, side, classes, candidate.width, candidate.depth)
        return Screened(in_fitting_precision(own, state.limits), accuracy=missed.accuracy)

    lower = [side for side in resolutions_of(start) if side < candidate.resolution]
    return [known.get((candidate.shape, side)) or at(side) for side in reversed(lower)]
