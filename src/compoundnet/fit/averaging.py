"""The average: a winner is trained again with other seeds while there is time, and the weights of all are averaged.

Fine-tunings of one pretrained network end so close together that the network with the mean of their weights is more
accurate than each, and costs no more than one (Wortsman et al., "Model soups: averaging weights of multiple fine-tuned
models improves accuracy without increasing inference time", ICML 2022).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from compoundnet.base import CompoundNetError
from compoundnet.fit.deployment import copied, deploy
from compoundnet.fit.finish import Winner
from compoundnet.fit.held_out import right_by_network
from compoundnet.fit.in_time import reason_of
from compoundnet.fit.job import FitJob
from compoundnet.fit.race_plan import PLANNED, length_on_all
from compoundnet.fit.state import Fit
from compoundnet.fit.trainings import Trainings
from compoundnet.models import ModelFolder, load, read_folder, write_folder
from compoundnet.train import InterruptedRunError
from compoundnet.train.evaluation.evaluation_report import wilson

# How many are averaged at the most, and how long each of them is at the least, as a fraction of the usual length.
# Lite0 on CIFAR-10, the mean of three trainings, and the average of two and of three: 10 images a class, 61.5, 63.4 and
# 63.5 % (96 px, 30 epochs), 51.2, 52.8 and 52.7 % (64 px, 60 epochs, other images), 41.5, 42.8 and 43.0 % (32 px, 60
# epochs), 38.5, 38.1 and 38.6 % (32 px, the other images); 100 a class, 69.2, 70.4 and 71.0 % (48 px, 15 epochs). Of
# six of 20 epochs at 32 px 42.0, where they have 41.0 in the mean; two of 5 epochs at 48 px gain nothing.
MOST, _SHORTEST = 5, 1.0


class Averaging:
    """Averages the answer with further trainings of the same candidate.

    Args:
        job: What the fit was asked for.
        state: The state of the fit, with the winner as its answer.
        trainings: The trainings.
        seconds: The time that the winner's training of the usual length takes, as estimated.

    Attributes:
        state: The state, with the answer and with what was said.
    """

    def __init__(self, job: FitJob, state: Fit, trainings: Trainings, seconds: float) -> None:
        self._job, self.state, self._trainings, self._seconds = job, state, trainings, seconds

    def run(self, winner: Winner) -> None:
        """Make the average the answer; that of before stays if there is no time for one.

        Networks with inherited or new weights are not averaged: they end far from one another.

        Raises:
            InterruptedRunError: This process was asked to stop.
        """
        answer = self.state.answer
        assert answer is not None
        if winner.candidate.key in self._trainings.fresh:
            if self._epochs(winner) is not None:
                self._say(
                    "there is time for more trainings, but inherited or new weights are not averaged", passing=True
                )
            return
        members = self._members(winner)
        if len(members) > answer.averaged:
            self._deploy(winner, members)

    def _members(self, winner: Winner) -> list[ModelFolder]:
        """The network, and as many further trainings as there is time for, those of an earlier call first."""
        members = [winner.model]
        for number in range(1, MOST):
            begun = self._trainings.begun_on_all(winner.candidate, winner.lesson, number)
            epochs = begun or self._epochs(winner)
            if epochs is None:
                break
            if begun is None:
                self._say(
                    f"training it once more, on all images from the start, for {epochs} epochs, to average the weights"
                )
            try:
                member = self._trainings.again(winner.candidate, number, winner.model, epochs, self._say, winner.lesson)
            except InterruptedRunError:
                raise
            except CompoundNetError as error:
                self._say(f"training it once more: {reason_of(error)}; it is left out", passing=True)
                break
            members.append(member)
        return members

    def _epochs(self, winner: Winner) -> int | None:
        """For how many epochs there is time; None if for too few."""
        left = PLANNED * (self._trainings.until - time.time())
        length = length_on_all(self._seconds, self._trainings.held_out, left)
        if length is None or length < _SHORTEST:
            return None
        return int(length * self._trainings.usual(winner.candidate))

    def _deploy(self, winner: Winner, members: Sequence[ModelFolder]) -> None:
        """Let the average take the place of the answer, unless the trainings went different ways."""
        place = self._trainings.folder / f"average-of-{members[-1].folder.name}"
        average = read_folder(place) if place.exists() else averaged(members, place)
        # They were held out once, but all are trained on them by now.
        seen = winner.finalist.judging_images(self._trainings.dataset.split("train"))
        before, now = (right_by_network(model, seen).mean() for model in (winner.model, average))
        said = (
            f"the average of {len(members)} trainings has {now:.1%} of {len(seen):,} training images right, one"
            f" {before:.1%}"
        )
        taken = now >= wilson(round(before * len(seen)), len(seen)).low
        self._say(f"{said}, so it is {'' if taken else 'not '}taken")
        if not taken:
            return
        finalist = winner.finalist._replace(averaged=len(members))
        make = copied(average, finalist.screened.candidate.resolution)
        answer, excess = deploy(
            finalist, make, self.state, self._trainings.dataset, self._job.target, self._job.deadline
        )
        if answer is None:
            self._say(f"the average: in its final form {excess}, so that one training stays")
            return
        self.state = msgspec.structs.replace(self.state, answer=answer, finished=False)

    def _say(self, text: str, *, passing: bool = False) -> None:
        self.state = self._job.told(self.state, text, passing=passing)


def averaged(members: Sequence[ModelFolder], folder: Path) -> ModelFolder:
    """Write the network whose weights are the mean of those of some trainings of it, and return the model.

    Args:
        members: The trainings; what is not weights comes from the first.
        folder: The model folder to write.
    """
    first, states = members[0], [load(one).state_dict() for one in members]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    readme = (first.folder / "README.md").read_text(encoding="utf-8")
    readme += (
        f"\nThe weights are the mean of those of {len(members)} such trainings from different seeds; log.csv and"
        " curves.png are of the first.\n"
    )
    extras = {name: (first.folder / name).read_bytes() for name in ("recipe.toml", "log.csv", "curves.png")}
    return write_folder(
        folder, first.network, mean, first.preprocess, labels=first.labels, postprocess=first.postprocess,
        readme=readme, extras=extras,
    )  # fmt: skip
