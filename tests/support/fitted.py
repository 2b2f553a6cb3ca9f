"""Fits that took place nowhere, with an answer, for the report and its plots."""

from __future__ import annotations

from compoundnet.fit import Answer, Candidate, Fit, HeldOut, Limits, Rung, Screened


def lite0(side: int, precision: str = "float32", backend: str = "") -> Candidate:
    """Return a candidate whose costs look like those of EfficientNet-Lite0."""
    return Candidate(
        "efficientnet-lite0", side, precision, 3_400_000, side**2 * 7500, 20_000_000 + side**2 * 300, 13_600_000,
        side**2 * 40, 3_500_000, backend=backend,
    )  # fmt: skip


def answered(
    own: Candidate,
    *,
    limits: Limits | None = None,
    fine_tuned: bool = False,
    rungs: tuple[Rung, ...] = (),
    new_weights: bool = False,
) -> Fit:
    """Return a fit with this answer, of which Lite0 was screened at 64 and 96 px."""
    answer = Answer(
        own, "best", "best.onnx", fine_tuned, 0.7, 4.5, 13_700_000, 1.0,
        held_out=HeldOut(0.85, 0.7, 100) if fine_tuned else None,
    )  # fmt: skip
    screened = tuple(Screened(lite0(side), side / 20, side / 150) for side in (64, 96))
    if own.scaled:
        screened += (Screened(own, 1.0, 0.4),)
    return Fit(
        "greys", "greys: three classes.", "0", limits or Limits(max_latency=8), 1, "a processor", screened=screened,
        rungs=rungs, answer=answer, new_weights=new_weights, made_at="2026-01-02T03:04:05", version="1",
    )  # fmt: skip
