"""The choice of a way to run a network, as a value that says how it was made."""

from __future__ import annotations

import msgspec

from compoundnet.runtime.backends.precisions import FLOAT32

# The least number of images that counts as a check of a precision.
LEAST_IMAGES = 20


class TriedWay(msgspec.Struct, frozen=True):
    """A way that was tried.

    Attributes:
        backend: The name of the backend.
        precision: The precision.
        milliseconds: The time of a batch, the least of interleaved rounds.
        agreement: The fraction of the images for which it predicts what float32 predicts; None if unknown.
        allowed: Whether `auto` may take it.
    """

    backend: str
    precision: str
    milliseconds: float
    agreement: float | None
    allowed: bool


class Choice(msgspec.Struct, frozen=True):
    """What `auto` chose, and why.

    Attributes:
        network: The name of the network.
        backend: The backend that was chosen.
        precision: The precision that was chosen.
        batch: Images at a time.
        threads: Threads of the network.
        least_agreement: The agreement from which a precision is allowed.
        images: The number of images on which precisions were compared with float32; 0 if they were not.
        checked_on: The images, in words.
        candidates: All ways that were tried, the fastest first.
    """

    network: str
    backend: str
    precision: str
    batch: int
    threads: int
    least_agreement: float
    images: int
    checked_on: str
    candidates: tuple[TriedWay, ...]

    def text(self) -> str:
        """Return the choice with its reason, in one line."""
        times = ", ".join(f"{one.backend} {one.precision} {_milliseconds(one)}" for one in self.candidates)
        return f"{self.network}: auto takes {self.backend} in {self.precision} ({times}); {self._check()}"

    def rule(self) -> str:
        """Return the rule by which it was chosen."""
        return (
            "auto takes the fastest way here that predicts what float32 predicts on at least"
            f" {_percent(self.least_agreement)} of the images"
        )

    def _check(self) -> str:
        reduced = [one for one in self.candidates if one.precision != FLOAT32]
        if not reduced:
            return "no other precision than float32 runs here"
        if len(reduced) == len(self.candidates):
            return f"the file holds {self.precision} and runs in no other precision"
        if not self.images:
            return f"unchecked precisions are not taken: checking takes at least {LEAST_IMAGES} images"
        shares = ", ".join(
            f"{one.backend} {one.precision} {'unchecked' if one.agreement is None else _percent(one.agreement)}"
            for one in reduced
        )
        return (
            f"agreement with float32 on {self.images:,} {self.checked_on}: {shares};"
            f" {_percent(self.least_agreement)} is needed"
        )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def _milliseconds(candidate: TriedWay) -> str:
    return f"{candidate.milliseconds:.3g} ms"
