"""How long the end of a fit takes: what follows on training is kept free of it, so that the answer comes in time.

It is estimated by what the first answer took, on this machine and these images, and by the candidate that is to be the
answer: int8 is calibrated, and compared with float32.
"""

from __future__ import annotations

import math

from compoundnet.base.machine import cores
from compoundnet.data import Dataset
from compoundnet.fit.candidates import FLOAT, HIGHEST, Candidate
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Fit

# Seconds to fit the temperature of a network and to compare it with the probe, on 100 held-out images; and to judge it
# at higher resolutions: 8 of Lite1, raised from 112 px, on 189 images and two cores.
_COMPARING, _RAISING = 9.0, 8.0
# How many times as long deployment takes in int8, and where layers are sought that stay in float32. The probe of Lite0
# at 128 px on 1,000 images took 25 s in int8, those in float32 7 to 8 s.
_INT8, _SOUGHT = 4, 6


def seconds_after_race(one: Screened, state: Fit, dataset: Dataset) -> float:
    """Return about how long it takes from the end of the race to the end, if a candidate wins it and is not trained
    further: it is compared with the probe, judged at higher resolutions, deployed, and judged on the test images.

    Args:
        one: The candidate.
        state: The state of the fit, with an answer.
        dataset: The data.
    """
    raising = _RAISING if state.limits.min_accuracy is None else 0.0
    assert one.latency is not None
    slowest = min(HIGHEST**2 * one.latency, state.limits.max_latency or math.inf)
    return _COMPARING + raising + _deployment(one.candidate, state) + _test(slowest, dataset)


def seconds_after_training(one: Screened, state: Fit, dataset: Dataset) -> float:
    """Return about how long it takes to deploy a candidate and to judge it on the test images; arguments as for
    `seconds_after_race`."""
    assert one.latency is not None
    return _deployment(one.candidate, state) + _test(one.latency, dataset)


def _deployment(candidate: Candidate, state: Fit) -> float:
    """Seconds to write, export and measure an answer."""
    assert state.answer is not None
    first = 1 if state.answer.candidate.precision == FLOAT else _SOUGHT if state.answer.float32_layers else _INT8
    sought = _SOUGHT if state.limits.max_drop is not None else _INT8
    return state.answer.seconds * (1 if candidate.precision == FLOAT else sought) / first


def _test(latency: float, dataset: Dataset) -> float:
    """Seconds to judge an answer on the test images, by its milliseconds of one image on one thread."""
    images = 0 if dataset.evaluation == "train" else len(dataset.split(dataset.evaluation))
    return images * latency / 1e3 / cores()
