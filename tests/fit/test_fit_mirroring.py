"""Training does not mirror images of which a mirrored one is of another class, and says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from fit_jobs import UNUSED, fit_job
from fitted import answered, lite0
from grey_images import write_models

from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.fit import Fit, Limits, Screened
from compoundnet.fit.candidates import measured
from compoundnet.fit.mirroring import Mirroring, compare_mirrored
from compoundnet.fit.next_commands import next_commands
from compoundnet.fit.race_plan import RacePlan
from compoundnet.fit.race_run import RaceRun
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.trainings import Trainings
from compoundnet.models import open_folder

# Of one candidate, for a test of what is not planned anew.
UNUSED_PLAN = RacePlan((), (), (), 0.0, 1.0, 0.0)


def stripes(kinds: tuple[str, str], count: int = 120) -> Dataset:
    """Stripes in two directions; `rising` and `falling` are mirror images of each other, `level` and `upright` not."""
    random, labels = np.random.default_rng(0), np.arange(count, dtype=np.int64) % 2
    down, across = np.mgrid[:32, :32]
    along = {"rising": down + across, "falling": down - across, "level": down * 1.4, "upright": across * 1.4}
    phases = random.uniform(0, 2 * np.pi, count)
    waves = [128 + 90 * np.sin(along[kinds[label]] / 1.6 + phase) for label, phase in zip(labels, phases, strict=True)]
    pixels = (np.stack(waves)[..., None] + random.normal(0, 10, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    return Dataset("stripes", {"train": Split("train", kinds, labels, Arrays("train", pixels))})


@pytest.mark.parametrize(
    ("found", "harms"),
    [
        (Mirroring(1000, 923, 84, 31), True),  # digits at 48 px
        (Mirroring(1000, 927, 52, 30), True),  # at 64 px
        (Mirroring(1000, 550, 69, 56), False),  # CIFAR-10: perhaps by chance
        (Mirroring(400, 370, 15, 7), False),  # likewise
        (Mirroring(10_000, 7_000, 590, 500), False),  # not by chance, but little
        (Mirroring(10, 10, 0, 0), False),
        (Mirroring(1000, 500, 30, 80), False),
    ],
)
def test_what_is_lost_must_be_more_than_little_and_chance(found: Mirroring, harms: bool) -> None:
    assert found.harms == harms


@pytest.mark.parametrize(("kinds", "harms"), [(("rising", "falling"), True), (("level", "upright"), False)])
def test_a_class_that_is_the_mirror_image_of_another_is_noticed(
    kinds: tuple[str, str], harms: bool, tmp_path: Path
) -> None:
    data, name = stripes(kinds), write_models(tmp_path)[0]
    start = open_folder(name)
    one, folder = measured(name, start.network, 32, 2), tmp_path / "inherited"
    found = compare_mirrored(one, data, start)
    assert found is not None and found.images == 120 and found.right > 80
    assert found.harms == harms, str(found)

    said = list[str]()
    job = fit_job(said.append, starts=StartingModels({name: start}, data.split("train"), folder))
    state = Fit("stripes", "", "", Limits(), 1, "", screened=(Screened(one, 1.0, 0.5),))
    found_out = RaceRun(job, state, UNUSED)._mirrored(state, data)
    assert found_out.flip is not harms
    assert [line.endswith("so training mirrors none") for line in said] == [True] * harms
    assert RaceRun(job, state, UNUSED)._mirrored(found_out, UNUSED) is found_out  # an earlier call has looked
    assert RaceRun(fit_job(seconds=30.0), state, UNUSED)._mirrored(state, UNUSED) is state  # there is no time
    begun = msgspec.structs.replace(state, plan=UNUSED_PLAN, seconds=300.0)  # with trainings that mirror
    assert RaceRun(fit_job(seconds=300.0), begun, UNUSED)._mirrored(begun, UNUSED) is begun


def test_halves_with_one_image_of_a_class_tell_nothing(tmp_path: Path) -> None:
    data, name = stripes(("rising", "falling"), count=4), write_models(tmp_path)[0]
    start = open_folder(name)
    one, said = measured(name, start.network, 32, 2), list[str]()
    assert compare_mirrored(one, data, start) is None
    job = fit_job(said.append, starts=StartingModels({name: start}, data.split("train"), tmp_path / "inherited"))
    state = Fit("stripes", "", "", Limits(), 1, "", screened=(Screened(one, 1.0, 0.5),))
    assert RaceRun(job, state, UNUSED)._mirrored(state, data).flip
    assert len(said) == 1 and said[0].startswith("the images are too few to see whether mirrored ones keep their class")


def test_trainings_that_mirror_nothing_have_folders_of_their_own(tmp_path: Path) -> None:
    data, name = stripes(("rising", "falling")), write_models(tmp_path)[0]
    start = open_folder(name)
    one = measured(name, start.network, 32, 2)
    usual = Trainings(data, tmp_path, {one.key: start}, frozenset(), 1, 0.0)
    upright = usual._replace(flip=False)
    assert usual.task(one).recipe.flip and not upright.task(one).recipe.flip
    assert usual.place(one) != upright.place(one)


def test_the_command_that_trains_on_mirrors_nothing_either(tmp_path: Path) -> None:
    found = answered(lite0(96))
    for flip, count in ((None, 0), (True, 0), (False, 2)):
        commands = next_commands(msgspec.structs.replace(found, flip=flip))
        assert sum("--set flip=false" in command for _, command in commands) == count
