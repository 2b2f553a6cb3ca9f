"""What an earlier call of `fit` has left: what of it is used again, and whether its race goes on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify
from compoundnet.base.machine import processor
from compoundnet.data import Dataset
from compoundnet.fit.candidates import models_at_hand
from compoundnet.fit.deployment import file_of
from compoundnet.fit.images import identity_of, left_out
from compoundnet.fit.limits import Limits
from compoundnet.fit.state import FIT_FILE, Fit, fit_folder, read_fit
from compoundnet.models import open_folder
from compoundnet.models.weights_files import sha256_of


def is_begun(
    dataset: Dataset,
    target: Path,
    limits: Limits,
    seconds: float,
    *,
    models: Sequence[str] | None = None,
    seed: int = 0,
    threads: int = 1,
    format: str = "onnx",  # noqa: A002  as of `fit`
) -> bool:
    """Return whether a call of `fit` goes on with the race of an earlier one, which was confirmed then."""
    try:
        before = read_fit(fit_folder(target))
    except CompoundNetError:  # there is none, or it is damaged
        return False
    own = (limits, threads, format, processor(), identity_of(dataset))
    if not before.goes_on(seconds, seed) or own != (
        before.limits, before.threads, before.format, before.processor, before.identity
    ):  # fmt: skip
        return False
    at_hand = models_at_hand() if models is None else models
    return _models_of(before) <= set(at_hand) and not _changed(before, at_hand)


def _models_of(state: Fit) -> set[str]:
    """The models of the answer and of the race."""
    answer = () if state.answer is None else (state.answer.candidate,)
    return {one.model for one in (*answer, *(() if state.plan is None else state.plan.entrants))}


def _changed(state: Fit, models: Sequence[str]) -> bool:
    """Whether one of the models has other weights than it had."""
    known = [name for name in models if name in state.weights]
    return any(sha256_of(open_folder(name).weights) != state.weights[name] for name in known)


def begin(new: Fit, target: Path, work: Path, *, anew: bool, notify: Notify) -> Fit:
    """Return the state of an earlier call with the same data and machine, as far as it is of the same models, or a new
    one.

    Args:
        new: The state of a call that begins anew.
        target: The model folder of the answer.
        work: The folder of what is made of these images, which is removed if it is of no use.
        anew: Whether to begin anew in any case.
        notify: Called with a line that says which it is, and why.
    """
    folder = fit_folder(target)
    if anew:
        shutil.rmtree(work, ignore_errors=True)
    if anew or not (folder / FIT_FILE).exists():
        return new
    try:
        before = read_fit(folder)
    except CompoundNetError as error:
        notify(f"{error}; starting anew")
        return new
    if (before.identity, before.processor, before.threads) != (new.identity, new.processor, new.threads):
        notify(
            f"{folder} holds results of other images or held-out images, of another machine or number of threads;"
            " starting anew"
        )
        return new
    if before.format != new.format:
        notify(f"{folder} holds latencies in the format {before.format}; candidates are timed anew")
        return new
    other = [name for name, weights in new.weights.items() if before.weights.get(name, weights) != weights]
    if other:
        notify(f"{', '.join(other)} had other weights before; starting anew")
        shutil.rmtree(work, ignore_errors=True)
        return new
    kept = tuple(one for one in before.screened if one.accuracy is not None)
    if kept:
        notify(f"going on: {len(kept)} candidate{' is' if len(kept) == 1 else 's are'} screened already")
    answer = before.answer
    if answer is not None and answer.candidate.model not in new.weights:
        notify(f"the answer of before is left out: {answer.candidate.model} is not among the models now")
        answer = None
    new = msgspec.structs.replace(
        new, screened=kept, ratios=before.ratios, reference=before.reference, unreadable=before.unreadable,
        flip=before.flip, weights={**before.weights, **new.weights},
    )  # fmt: skip
    file = file_of(target, new.format)
    if answer is None or before.limits != new.limits or not (target.exists() and file.exists()):
        if not before.unreadable:
            return new
        text = left_out(before.unreadable, "training")
        notify(text)
        return new.noted(text)
    return msgspec.structs.replace(
        new, answer=msgspec.structs.replace(answer, model=str(target), file=str(file)), finished=before.finished,
        plan=before.plan, seconds=before.seconds, seed=before.seed, rungs=before.rungs,
        notes=tuple(note for note in before.notes if note not in before.passing),
    )  # fmt: skip
