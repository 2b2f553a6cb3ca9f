"""The settings of a scaling study (Figures 3, 4 and 8 of the paper) for any network on any data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network
from compoundnet.base import check
from compoundnet.search.study.lines import FigureNumber, Multipliers, StudyLines, label, scaled
from compoundnet.train.recipe import Recipe
from compoundnet.trials.measurement import TrainingJob, TrialOutcome
from compoundnet.trials.settings import PointList, position

if TYPE_CHECKING:
    import optuna

BASELINE = (1.0, 1.0, 1.0)
# Said of a study of Figure 8 on a server.
NO_MODELS = (
    "No trained network is kept as a model, because the workers of a study on a server have no folder in common:"
    " explain and Figure 7 need a study without --storage."
)


def _same(network: Network) -> Network:
    """The network without its name and origin."""
    return network.replace(name="network", scaling=None)


class StudyNetwork(msgspec.Struct, frozen=True):
    """A network of a study, with the first line that contains it, and its multipliers.

    The line of the baseline is empty if the lines only start from it.
    """

    line: str
    multipliers: Multipliers
    network: Network

    @property
    def name(self) -> str:
        """The name of its model folder, such as `compound-d1.4-w1.2-r1.3`."""
        if self.multipliers == BASELINE:
            return "baseline"
        multipliers = label(self.multipliers).replace("=", "").replace(", ", "-")
        return f"{self.line}-{multipliers}"


class ScalingStudy(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="study"):
    """Every network of `lines`, scaled from `network` and trained by `recipe` with each of `seeds` seeds.

    Accuracies are measured on the test images, because a study compares networks and selects none.

    Attributes:
        figure: The figure of the paper, 3, 4 or 8.
        network: The baseline, with the data's classes.
        lines: The multipliers of the networks.
        data: The data set, in the form that `open_dataset` accepts.
        recipe: The recipe of every training.
        seeds: The number of trainings of each network.
        seed: The first seed.
    """

    figure: FigureNumber
    network: Network
    lines: StudyLines
    data: str
    recipe: Recipe
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds must be at least 1, got {self.seeds}")

    def places(self) -> tuple[StudyNetwork, ...]:
        """Return each different network once, with the baseline first if the lines start from it."""
        found: dict[Network, StudyNetwork] = {}
        for line, multipliers in self._listed():
            network = scaled(self.network, multipliers)
            found.setdefault(_same(network), StudyNetwork(line, multipliers, network))
        return tuple(found.values())

    def at(self, multipliers: Multipliers) -> StudyNetwork:
        """Return the network of these multipliers."""
        wanted = _same(scaled(self.network, multipliers))
        return next(place for place in self.places() if _same(place.network) == wanted)

    def curve(self, name: str) -> list[StudyNetwork]:
        """Return the networks of a line, with the baseline first if the lines start from it."""
        listed = [self.at(multipliers) for line, multipliers in self._listed() if line in (name, "")]
        return list(dict.fromkeys(listed))

    def params(self) -> list[dict[str, float]]:
        """Return each trial's multipliers: all networks with the first seed come first, so that curves are complete
        early."""
        listed = [place.multipliers for place in self.places()] * self.seeds
        return [dict(zip(("depth", "width", "resolution"), multipliers, strict=True)) for multipliers in listed]

    def networks(self) -> tuple[Network, ...]:
        """Return all networks."""
        return tuple(place.network for place in self.places())

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """Return the network and seed for the position of the trial."""
        places = self.places()
        round_, index = divmod(position(trial), len(places))
        place = places[index]
        # Figure 7 shows activation maps of the networks of Table 7.
        keep = place.name if self.figure == 8 and round_ == 0 else None
        point = f"{place.line} {label(place.multipliers)}".strip()
        return TrainingJob(place.network, self.seed + round_, point, "test", keep)

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """Return the accuracy."""
        return (outcome.accuracy,)

    def _listed(self) -> list[tuple[str, Multipliers]]:
        """Return (line, multipliers); the baseline belongs to the line that contains it, or to none."""
        listed = [(line.name, point) for line in self.lines.lines for point in line.points]
        return listed if BASELINE in [point for _, point in listed] else [("", BASELINE), *listed]
