"""The study of the paper's method: networks of equal cost, trainings on the device, and what is made of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
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
from studies.method_cifar10.__main__ import default_output, main, unpacked
from studies.method_cifar10.resident import Images, Training, check_recipe, random_crops, resample, run
from studies.method_cifar10.trainings import TrainingsFile

ROOT = Path(__file__).resolve().parents[2]
RECIPE = find_recipe(str(ROOT / "studies" / "method_cifar10" / "recipe.toml"))
DOCUMENTED = ROOT / "docs" / "studies" / "method-cifar10"
WHOLE = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
STUDY = "from studies.method_cifar10.__main__ import main; main()"
# Ends the study, as a signal does, at the end of its second training.
INTERRUPTED = f"""
from studies.method_cifar10.resident import Training
finish, ended = Training.finish, []
def interrupted(*given):
    ended.append(given)
    if len(ended) == 2:
        raise KeyboardInterrupt
    return finish(*given)
Training.finish = interrupted
{STUDY}
"""


def run_study(*options: str | Path, program: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the study in a process of its own, by its command or in a program of ours."""
    run = ["-m", "studies.method_cifar10"] if program is None else ["-c", program]
    command = [sys.executable, *run, *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


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
    documented = TrainingsFile(DOCUMENTED).rows
    other = report.Plan(baseline, RECIPE.replace(precision="fp32"), (2, 4), 3, ())
    report.write(tmp_path, documented, other)
    told = capsys.readouterr().out
    assert "STEP 1 has trainings with this recipe for 0 of its 8 networks" in told
    assert "trainings.jsonl has 59 trainings with precision=bf16 (--set)" in told
    assert report.with_other_recipes(documented, other._replace(recipe=RECIPE)) == ""
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


@pytest.mark.slow
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
    options = "--smoke", "--seeds", "2", "--budgets", "2", "-o", tmp_path
    first = run_study(*options)
    assert first.returncode == 0, first.stderr
    before, _, after = first.stdout.partition("what is missing takes about ")
    assert f"{tmp_path} has 0 finished trainings\n" in before and " seed " not in before
    assert after.partition("\n")[0].endswith(" s on this CPU, without 1 network that STEP 1 may add")
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
    again = run_study(*options, program=f"{STUDY}; import os; print(os.environ['THP_MEM_ALLOC_ENABLE'])")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" seed ") == 1
    assert again.stdout.endswith("\n1\n")  # it has asked for pages of 2 MB, as `train` does
    assert len(TrainingsFile(tmp_path).rows) == len(done.rows)


@pytest.mark.slow
def test_an_interrupted_study_on_a_cpu_keeps_each_training_that_ended(tmp_path: Path) -> None:
    done = run_study("--smoke", "--stages", "scale", "--budgets", "2", "-o", tmp_path, program=INTERRUPTED)
    assert "KeyboardInterrupt" in done.stderr
    assert [row.seed for row in TrainingsFile(tmp_path).rows] == [0]


@pytest.mark.slow
def test_a_zip_file_is_unpacked_and_trainings_with_another_recipe_are_counted(tmp_path: Path) -> None:
    smoke.write_images(tmp_path / "images")
    packed = shutil.make_archive(str(tmp_path / "cifar10"), "zip", tmp_path / "images")
    documented = next(row for row in TrainingsFile(DOCUMENTED).rows if row.stage == "scale")
    (tmp_path / "study").mkdir()
    TrainingsFile(tmp_path / "study").add(documented)
    done = run_study(
        packed, "--device", "cpu", "--stages", "tune", "--seconds", "0", "-o", tmp_path / "study",
        "--set", "minival=40", "batch=32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "precision fp32 instead of bf16" in done.stdout
    assert "120 training, 40 held-out images on cpu" in done.stdout
    assert "1 training with batch=512, minival=5000.0, precision=bf16 do not count" in done.stdout
    assert "out of time, 8 networks are left" in done.stdout


def test_a_zip_file_without_a_test_folder_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as archive:
        archive.writestr("cifar10/train/cat/0.jpg", b"")
    with pytest.raises(CompoundNetError, match=r"cifar10\.zip: expected train/CLASS/\*\.jpg and test/CLASS"):
        unpacked(str(tmp_path / "cifar10.zip"), tmp_path / "unpacked")
    assert unpacked(str(tmp_path), tmp_path) == str(tmp_path)


def test_only_a_gpu_writes_to_the_documented_study_by_itself() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert default_output(gpu, smoke=False) == DOCUMENTED
    others = {default_output(cpu, smoke=False), default_output(cpu, smoke=True)}
    assert len(others) == 2 and {folder.parent for folder in others} == {ROOT / "build"}
    assert default_output(gpu, smoke=True) in others


def test_it_needs_images_or_smoke(tmp_path: Path) -> None:
    done = run_study("-o", tmp_path)
    assert done.returncode == 2
    assert "give DATA, --smoke or --report" in done.stderr


def test_make_study_takes_images_or_smoke() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "SMOKE", "CIFAR10")}

    def told(*given: str) -> subprocess.CompletedProcess[str]:
        command = [make, "--dry-run", "--no-print-directory", "study", *given]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert told("SMOKE=1").stdout.endswith("-m studies.method_cifar10 --smoke\n")
    assert told("CIFAR10=my images.zip").stdout.endswith("-m studies.method_cifar10 'my images.zip'\n")
    neither = told()
    assert neither.returncode == 2
    assert "give CIFAR10=FOLDER or CIFAR10=FILE.zip, or SMOKE=1" in neither.stderr


@pytest.mark.slow
def test_the_report_follows_from_the_finished_trainings(tmp_path: Path) -> None:
    """The documented tables, again from the file of trainings alone, without images."""
    (tmp_path / "trainings.jsonl").write_bytes((DOCUMENTED / "trainings.jsonl").read_bytes())
    done = run_study("--report", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("tuning.md", "step1.md", "figure3/table.md", "figure4/table.md", "figure8/table.md"):
        assert (tmp_path / name).read_text() == (DOCUMENTED / name).read_text(), name
