"""The paper's scaling studies (Figures 3, 4, 8) of any network on any data, as a search whose trials are listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network
from compoundnet.base import check
from compoundnet.search.study.lines import FigureNumber, Multipliers, StudyLines, label, scaled
from compoundnet.train.recipe import Recipe
from compoundnet.trials.measuring import TrainingJob, TrialOutcome
from compoundnet.trials.settings import PointList, position

if TYPE_CHECKING:
    import optuna

BASELINE = (1.0, 1.0, 1.0)


def _same(network: Network) -> Network:
    """Without what does not change the network itself."""
    return network.replace(name="network", scaling=None)


class StudyNetwork(msgspec.Struct, frozen=True):
    """A network of a study: the line it is first found on, its multipliers, and the network."""

    line: str
    multipliers: Multipliers
    network: Network

    @property
    def name(self) -> str:
        """Of its model folder: `compound-d1.4-w1.2-r1.3`."""
        if self.multipliers == BASELINE:
            return "baseline"
        multipliers = label(self.multipliers).replace("=", "").replace(", ", "-")
        return f"{self.line}-{multipliers}"


class ScalingStudy(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="study"):
    """Every network of `lines`, scaled from `network`, trained by `recipe` with each of `seeds` seeds.

    Accuracies are of the test pictures: a study describes how networks compare, and chooses none.
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
        """Each different network once, the baseline first where the lines start at it."""
        found: dict[Network, StudyNetwork] = {}
        for line, multipliers in self._listed():
            network = scaled(self.network, multipliers)
            found.setdefault(_same(network), StudyNetwork(line, multipliers, network))
        return tuple(found.values())

    def at(self, multipliers: Multipliers) -> StudyNetwork:
        """The network of these multipliers, as `places` has it."""
        wanted = _same(scaled(self.network, multipliers))
        return next(place for place in self.places() if _same(place.network) == wanted)

    def curve(self, name: str) -> list[StudyNetwork]:
        """The networks of a line; the baseline first where the lines start at it."""
        listed = [self.at(multipliers) for line, multipliers in self._listed() if line in (name, "")]
        return list(dict.fromkeys(listed))

    def params(self) -> list[dict[str, float]]:
        """All networks with the first seed, then all with the next: an unfinished study has whole curves."""
        listed = [place.multipliers for place in self.places()] * self.seeds
        return [dict(zip(("depth", "width", "resolution"), multipliers, strict=True)) for multipliers in listed]

    def networks(self) -> tuple[Network, ...]:
        """All of them."""
        return tuple(place.network for place in self.places())

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """The network and seed of the trial's position."""
        places = self.places()
        round_, index = divmod(position(trial), len(places))
        place = places[index]
        # Figure 7 looks into the networks of Table 7.
        keep = place.name if self.figure == 8 and round_ == 0 else None
        point = f"{place.line} {label(place.multipliers)}".strip()
        return TrainingJob(place.network, self.seed + round_, point, "test", keep)

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """The accuracy."""
        return (outcome.accuracy,)

    def _listed(self) -> list[tuple[str, Multipliers]]:
        """(line, multipliers); the baseline belongs to no line, or to one that has it."""
        listed = [(line.name, point) for line in self.lines.lines for point in line.points]
        return listed if BASELINE in [point for _, point in listed] else [("", BASELINE), *listed]
