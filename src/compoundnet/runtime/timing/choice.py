"""The choice of a way to run a network: the fastest on this machine whose predictions agree with float32."""

from __future__ import annotations

from collections.abc import Sequence

from compoundnet.models.tuning import LEAST_AGREEMENT, Tuning
from compoundnet.runtime.backends.choices import Choice, TriedWay
from compoundnet.runtime.backends.precisions import FLOAT32, Way
from compoundnet.runtime.session_source import SessionSource
from compoundnet.runtime.timing.agreement import ProbeImages, agreement_of
from compoundnet.runtime.timing.fastest import time_ways


def choose(
    source: SessionSource,
    ways: Sequence[Way],
    *,
    threads: int,
    batch: int,
    device: str = "cpu",
    images: ProbeImages | None = None,
    tuning: Tuning | None = None,
) -> Choice:
    """Time the ways and take the fastest that is allowed. Times and agreement are measured once and cached.

    A way in float32 is allowed. Another is allowed if its predictions agree with those of the first way in float32: on
    the images with which the model was tuned, or else on `images`.

    Args:
        source: The network.
        ways: The ways, of which one at least is in the precision of the source.
        threads: Threads of the network.
        batch: Images in a batch.
        device: The device of torch.
        images: Returns images for the comparison, at most `MOST_IMAGES`.
        tuning: The record of `compoundnet models tune`.
    """
    times = time_ways(source, ways, threads, batch, device)
    reduced = [way for way in ways if way.precision != source.precision]
    shares: dict[Way, float] = {}
    count, checked_on, least = 0, "images", LEAST_AGREEMENT
    if tuning is not None and reduced:
        recorded = {(one.backend, one.precision): one.agreement for one in tuning.ways}
        shares = {way: recorded[way.backend.name, way.precision] for way in reduced if _key(way) in recorded}
        count, checked_on, least = tuning.images, f"images of {tuning.data}", tuning.least_agreement
    elif reduced and source.precision == FLOAT32:
        reference = next(way for way in ways if way.precision == FLOAT32)
        found = agreement_of(source, reference, reduced, threads, device, images)
        if found is not None:
            shares = {way: found.shares[str(way)] for way in reduced}
            count, checked_on = found.images, found.checked_on
    candidates = tuple(
        TriedWay(
            way.backend.name,
            way.precision,
            times[way],
            shares.get(way),
            way not in reduced or shares.get(way, 0.0) >= least,
        )
        for way in sorted(ways, key=times.__getitem__)
    )
    taken = next(one for one in candidates if one.allowed)
    return Choice(source.name, taken.backend, taken.precision, batch, threads, least, count, checked_on, candidates)


def _key(way: Way) -> tuple[str, str]:
    return way.backend.name, way.precision
