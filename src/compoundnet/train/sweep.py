"""`--sweep`: learning rate and weight decay chosen on held-out training pictures, as Kornblith et al. 2019 do."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from compoundnet.arch import CompoundNetError, Network, write_whole
from compoundnet.data import Dataset
from compoundnet.models import Model
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.engine import Engine
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.logs import Logs
from compoundnet.train.recipe import Recipe
from compoundnet.train.run import run_folder
from compoundnet.train.task import plan_task
from compoundnet.train.watching import Watcher

if TYPE_CHECKING:
    import optuna


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`decay_ratios` are weight decay divided by learning rate. `held_out` is the share of the training pictures that
    trials are judged on."""

    lrs: tuple[float, ...]
    decay_ratios: tuple[float, ...]
    held_out: float


def published_grid() -> Grid:
    """Kornblith's, from kornblith_grid.toml."""
    text = resources.files("compoundnet.train").joinpath("kornblith_grid.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Grid)


def sweep(
    recipe: Recipe,
    dataset: Dataset,
    output: Path,
    *,
    network: Network | None = None,
    start: Model | None = None,
    grid: Grid | None = None,
    trials: int | None = None,
    workers: int = 0,
    watcher: Watcher | None = None,
) -> Recipe:
    """The recipe with the best values of the grid, still without held-out pictures: train with it on all of them.

    Trials are kept in `run_folder(output)/sweep.db`. Called again it goes on, each trial from its own last checkpoint;
    called in several processes at once they share the trials.
    trials  at most so many in this call; all of the grid by default
    """
    import optuna

    grid = grid or published_grid()
    folder = run_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {"lr": list(grid.lrs), "decay_ratio": list(grid.decay_ratios)}
    study = optuna.create_study(
        study_name=f"{dataset.name}, {recipe.name}",
        storage=f"sqlite:///{folder / 'sweep.db'}",
        sampler=optuna.samplers.GridSampler(space, seed=recipe.seed),
        direction="maximize",
        load_if_exists=True,
    )
    fixed = {"recipe": msgspec.json.encode(recipe.fields()).decode(), "grid": msgspec.json.encode(grid).decode()}
    for name, value in fixed.items():
        if study.user_attrs.get(name, value) != value:
            raise CompoundNetError(
                f"{folder / 'sweep.db'} is a sweep with another {name}; give another output (-o), or remove that file"
            )
        study.set_user_attr(name, value)

    def objective(trial: optuna.Trial) -> float:
        chosen = with_values(
            recipe, trial.suggest_categorical("lr", space["lr"]),
            trial.suggest_categorical("decay_ratio", space["decay_ratio"]), held_out=grid.held_out,
        )  # fmt: skip
        score = _run(chosen, dataset, folder, network=network, start=start, workers=workers, watcher=watcher)
        if watcher is not None:
            watcher.said(
                f"lr {chosen.lr:.3g}, weight decay {chosen.weight_decay:.3g}: {score:.2%} of held-out pictures"
            )
        return score

    finished = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    left = len(grid.lrs) * len(grid.decay_ratios) - len(finished)
    if left > 0:
        study.optimize(objective, n_trials=min(left, trials or left))
    return with_values(recipe, study.best_params["lr"], study.best_params["decay_ratio"], held_out=0)


def with_values(recipe: Recipe, lr: float, decay_ratio: float, *, held_out: float) -> Recipe:
    """The recipe at a point of the grid."""
    changed = recipe.fields() | {"lr": lr, "weight_decay": lr * decay_ratio, "minival": held_out}
    return msgspec.convert(changed, Recipe)


def _run(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    network: Network | None,
    start: Model | None,
    workers: int,
    watcher: Watcher | None,
) -> float:
    """The last evaluation's top-1. A trial that was interrupted goes on where it was.

    Several processes can be given the same point when few are left: the second waits, and takes the first one's score.
    """
    place = folder / "sweep" / f"lr={recipe.lr:.4g},decay={recipe.weight_decay:.4g}"
    place.mkdir(parents=True, exist_ok=True)
    score_file = place / "score"
    with FileLock(place / "lock"):  # let go by the system when its process is killed
        if score_file.exists():
            return float(score_file.read_text())
        task = plan_task(recipe, dataset, network=network, start=start)
        checkpoints = Checkpoints(place / "checkpoints", recipe.keep)
        engine = Engine(task, launch(Hardware(), recipe), checkpoints, Logs(place), workers=workers, watcher=watcher)
        engine.resume()
        engine.run()
        score = engine.history[-1].held_top1
        assert score is not None
        write_whole(score_file, repr(score).encode())
        checkpoints.clear()
        return score
