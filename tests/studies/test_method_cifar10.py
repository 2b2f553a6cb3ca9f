"""The study of the paper's method: networks of equal cost, trainings on the device, and what is made of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from compoundnet.arch import Coefficients, FoundCoefficients, Network, cost
from compoundnet.base import CompoundNetError, read_toml
from compoundnet.search.study.folder import read_study
from compoundnet.search.study.lines import scaled
from compoundnet.train import find_recipe
from compoundnet.train.recipe_parts import RMSProp
from studies.method_cifar10 import points, report, smoke
from studies.method_cifar10.__main__ import main
from studies.method_cifar10.resident import Images, Training, check_recipe, random_crops, resample, run
from studies.method_cifar10.trainings import TrainingsFile

ROOT = Path(__file__).resolve().parents[2]
RECIPE = find_recipe(str(ROOT / "studies" / "method_cifar10" / "recipe.toml"))
WHOLE = torch.tensor([[1.0, 0, 0], [0, 1, 0]])


@pytest.fixture(scope="module")
def baseline() -> Network:
    return Network.load(ROOT / "examples" / "small-images.toml")


def test_all_lines_cost_the_same_at_each_budget(baseline: Network) -> None:
    lines = points.lines(baseline, (2, 4), Coefficients(1.1, 1.2, 1.1)).lines
    assert [line.name for line in lines] == [
        "width", "depth", "resolution", "fast", "compound, the paper's", "compound, found"
    ]  # fmt: skip
    unit = cost(baseline).macs
    for number, budget in enumerate((2, 4)):
        costs = [cost(scaled(baseline, line.points[number])).macs for line in lines]
        depth = costs[1]
        assert depth == pytest.approx(budget * unit, rel=0.05)
        assert all(abs(one / depth - 1) <= points.TOLERANCE for one in costs)


def test_step_one_has_each_dimension_alone_and_different_networks(baseline: Network) -> None:
    found = points.step_one(baseline, (2, 4)).points
    networks = [scaled(baseline, point).replace(name="n", scaling=None) for point in found]
    assert len(set(networks)) == len(found) == 8
    lines = {line.name: line for line in points.lines(baseline, (2, 4), Coefficients()).lines}
    for name in ("width", "depth", "resolution", "compound, the paper's"):
        assert scaled(baseline, lines[name].points[0]).replace(name="n", scaling=None) in networks


def test_step_one_says_which_of_its_points_are_one_network(baseline: Network) -> None:
    (merged,) = points.step_one(baseline, (2, 4)).merged
    paper, grid = (1.1034632473903743, 1.057, 1.09375), (1.2, 1.057, 1.09375)
    assert points.compound_at(baseline, points.PAPER, points.budgets(baseline, (2, 4))[0][1]) == paper
    assert merged.startswith("d=1.103, w=1.057, r=1.094 (the paper's coefficients) makes the same network as d=1.2, ")
    assert scaled(baseline, paper).stages == scaled(baseline, grid).stages
    assert cost(scaled(baseline, paper)).params == 289_722


def test_a_budget_that_no_width_meets_is_refused(baseline: Network) -> None:
    """Left out, it would pair the later budgets of width with the earlier ones of the other lines."""
    coarse = baseline.replace(rules=msgspec.structs.replace(baseline.rules, channel_divisor=32))
    with pytest.raises(CompoundNetError, match=r"no width at d=1, r=1 costs 1.* leave that budget out of"):
        points.one_dimension(coarse, (2, 4))


def test_a_report_says_what_it_lacks(
    baseline: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["method_cifar10", "--report", "-o", str(tmp_path)])
    with pytest.raises(CompoundNetError, match=r"trainings\.jsonl has no finished trainings"):
        main()
    assert list(tmp_path.iterdir()) == []
    documented = TrainingsFile(ROOT / "docs" / "studies" / "method-cifar10").rows
    other = report.Plan(baseline, RECIPE.replace(precision="fp32"), (2, 4), 3, ())
    report.write(tmp_path, documented, other)
    told = capsys.readouterr().out
    assert "STEP 1 has trainings with this recipe for 0 of its 8 networks" in told and "precision=bf16" in told
    assert [path.name for path in tmp_path.iterdir()] == ["tuning.md"]


def test_figure_4_widens_from_each_of_its_four_baselines(baseline: Network) -> None:
    lines = points.widths_on_four_baselines(baseline, (2, 4)).lines
    assert len({(line.points[0][0], line.points[0][2]) for line in lines}) == 4
    for line in lines:
        (depth, width, factor), *wider = line.points
        assert width == 1
        assert all(point[0] == depth and point[2] == factor and point[1] > 1 for point in wider)
    assert [len(line.points) for line in lines] == [3, 2, 2, 1]


def test_a_crop_lies_inside_the_image_and_has_the_area_asked_for() -> None:
    maps = random_crops(5000, RECIPE.replace(area=(0.5, 1.0)), np.random.default_rng(0))
    width, height = np.abs(maps[:, 0, 0]), maps[:, 1, 1]
    assert (np.abs(maps[:, 0, 2]) + width <= 1 + 1e-6).all()
    assert (np.abs(maps[:, 1, 2]) + height <= 1 + 1e-6).all()
    assert (width * height >= 0.5 - 1e-6).all()
    assert 0.45 < (maps[:, 0, 0] < 0).mean() < 0.55
    assert (random_crops(100, RECIPE.replace(flip=False), np.random.default_rng(0))[:, 0, 0] > 0).all()


def test_the_whole_image_at_its_own_size_is_unchanged() -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    same = resample(pixels, WHOLE.expand(2, 2, 3), 32)
    assert torch.allclose(same * 64 + 127.5, pixels.permute(0, 3, 1, 2).float(), atol=0.01)
    mirrored = resample(pixels, (WHOLE * torch.tensor([-1.0, 1, 1])).expand(2, 2, 3), 32)
    assert torch.allclose(mirrored, same.flip(3), atol=1e-3)
    assert resample(pixels, WHOLE.expand(2, 2, 3), 41).shape == (2, 3, 41, 41)


def test_a_recipe_that_asks_for_more_is_refused() -> None:
    check_recipe(RECIPE)
    with pytest.raises(CompoundNetError, match="has no ema_decay"):
        check_recipe(RECIPE.replace(ema_decay=0.9))
    with pytest.raises(CompoundNetError, match="has no optimizer rmsprop"):
        check_recipe(RECIPE.replace(optimizer=RMSProp()))
    for name, value in (("precision", "fp16"), ("norm_momentum", "kornblith"), ("dropout", 0.2), ("seed", 1)):
        with pytest.raises(CompoundNetError, match=f"has no {name}"):
            check_recipe(RECIPE.replace(**{name: value}))


def test_trainings_learn_and_a_seed_repeats_them(baseline: Network) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(128) % 10
    pixels = 20 * labels[:, None, None, None] + random.integers(0, 20, (128, 32, 32, 3))
    images = Images(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels))
    network, recipe = smoke.reduced(baseline, RECIPE.replace(precision="fp32"))
    recipe = recipe.replace(epochs=8, label_smoothing=0)

    def train() -> dict[int, float]:
        results = run({seed: Training(network, recipe, seed, images) for seed in (0, 1)}, images, images)
        return {seed: result.loss for seed, result in results}

    losses = train()
    assert max(losses.values()) < 1.9 < np.log(10)
    assert losses[0] != losses[1]
    assert train() == losses


def test_too_few_images_for_a_batch_are_refused(baseline: Network) -> None:
    images = Images(torch.zeros(8, 32, 32, 3, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(CompoundNetError, match="8 training images do not fill a batch of 512"):
        Training(baseline, RECIPE, 0, images)


def test_the_command_runs_to_the_end_goes_on_and_leaves_what_reproduce_reads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.method_cifar10", "--smoke", "--seeds", "2", "--budgets", "2"]
    command += ["-o", str(tmp_path)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    done = TrainingsFile(tmp_path)
    for figure in (3, 4, 8):
        study = read_study(tmp_path / f"figure{figure}")
        assert study.summary is not None
        assert all(row.accuracy is not None and len(row.accuracies) == 2 for row in study.summary.rows)
    best = max((row for row in done.rows if row.stage == "scale"), key=lambda row: row.held)
    assert best.held >= 0
    found = read_toml(tmp_path / "coefficients.toml", FoundCoefficients)
    assert found.network is not None
    assert "95 % confidence" in found.about
    assert (tmp_path / "tuning.md").read_text().count("\n") == 2 + sum(row.stage == "tune" for row in done.rows)

    # A killed writer leaves half a line; the training is done again, and nothing else.
    text = done.path.read_text()
    done.path.write_text(text[:-30])
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" seed ") == 1
    assert len(TrainingsFile(tmp_path).rows) == len(done.rows)


def test_it_needs_images_or_smoke(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.method_cifar10", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give DATA, --smoke or --report" in done.stderr


def test_the_report_follows_from_the_finished_trainings(tmp_path: Path) -> None:
    """The documented tables, again from the file of trainings alone, without images."""
    documented = ROOT / "docs" / "studies" / "method-cifar10"
    (tmp_path / "trainings.jsonl").write_bytes((documented / "trainings.jsonl").read_bytes())
    command = [sys.executable, "-m", "studies.method_cifar10", "--report", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("tuning.md", "step1.md", "figure3/table.md", "figure4/table.md", "figure8/table.md"):
        assert (tmp_path / name).read_text() == (documented / name).read_text(), name
