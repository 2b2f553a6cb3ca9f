"""The commands that the report names for what comes next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from compoundnet.fit.front_plot import trained_resolution
from compoundnet.fit.ways import file_precision

if TYPE_CHECKING:
    from compoundnet.fit.candidates import Candidate
    from compoundnet.fit.state import Fit


def next_commands(found: Fit) -> list[tuple[str, str]]:
    """Return pairs of a purpose and the command for it; none before there is an answer.

    IMAGES, DATA and the outputs stand for the user's own.
    """
    answer = found.answer
    if answer is None:
        return []
    file, model, way = shlex.quote(answer.file), shlex.quote(answer.model), _way(answer.candidate)
    upright = " --set flip=false" if found.flip is False else ""
    return [
        ("classify images", f"compoundnet predict {file} IMAGES{way}"),
        ("a local page", f"compoundnet serve --model {model}"),
        ("a service for programs", f"compoundnet serve --api --model {file}{way}"),
        ("which parts matter", f"compoundnet explain {model} IMAGES"),
        ("train it on, with more images", f"compoundnet train DATA --from {model}{upright} -o better"),
        *_from_the_start(found, answer.candidate, upright),
    ]


def _way(candidate: Candidate) -> str:
    """The options with which the deployed file is computed as it was measured."""
    backend = f" --backend {candidate.backend}" if candidate.backend else ""
    own = candidate.precision == file_precision(candidate.precision)
    return backend + ("" if own else f" --precision {candidate.precision}")


def _from_the_start(found: Fit, candidate: Candidate, upright: str) -> list[tuple[str, str]]:
    """The training of the same network from what the fit started from: a model, a smaller one, or new weights."""
    commands, start, new = list[tuple[str, str]](), shlex.quote(candidate.model), found.new_weights
    if candidate.scaled:
        shape = f" --width {candidate.width}" if candidate.width < 1 else ""
        shape += f" --depth {candidate.depth}" if candidate.depth < 1 else ""
        sample, smaller = ("", "smaller.toml") if new else (" --sample IMAGES", "smaller")
        commands.append(("the smaller network anew", f"compoundnet scale {start}{shape}{sample} -o {smaller}"))
        start = smaller
    option = "--network" if new else "--from"
    side = trained_resolution(found) or candidate.resolution
    training = f"compoundnet train DATA {option} {start} --set resolution={side}{upright} -o better"
    return [*commands, ("train from the start", training)]
