"""What a sweep has found, as all its processes see it.

An optuna study in an SQLite file holds finished trials only, one a point of the grid. A point without one is free,
unless a process holds its lock file, of which the system lets go when that process is killed: so there is no state that
a kill could leave behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock, Timeout

from compoundnet.base import CompoundNetError, make_folder
from compoundnet.data.dataset import Metric
from compoundnet.train.grid import Grid, Point
from compoundnet.train.identity import difference

if TYPE_CHECKING:
    import optuna

# Seconds that SQLite waits for another process's write.
_BUSY = 120


class Trials:
    """The study in FOLDER/sweep.db, made where there is none, and FOLDER/sweep with a folder for each point.

    task    its `identity`
    metric  what the scores are

    Raises CompoundNetError where the study is of another task, grid or metric.
    """

    def __init__(self, folder: Path, grid: Grid, task: str, metric: Metric) -> None:
        self._file, self._folder, self.grid, self.metric = folder / "sweep.db", folder / "sweep", grid, metric
        make_folder(self._folder)
        with self._readable_errors(), FileLock(self._folder / "lock"):
            self._study = self._open()
            self._check(task)

    def scores(self) -> dict[Point, float | None]:
        """Of the finished points: the metric on the held-out pictures, None where training diverged."""
        with self._readable_errors():
            trials = self._study.get_trials(deepcopy=False)
        return {
            Point(trial.params["lr"], trial.params["decay_ratio"]): None if trial.user_attrs else trial.values[0]
            for trial in trials
        }

    def left(self) -> list[Point]:
        """Points without a trial, in the grid's order."""
        scores = self.scores()
        return [point for point in self.grid.points() if point not in scores]

    def best(self) -> Point:
        """The same whatever the order they were finished in."""
        scores = {point: -1.0 if score is None else score for point, score in self.scores().items()}
        return max(self.grid.points(), key=lambda point: scores[point])

    @contextlib.contextmanager
    def held(self, point: Point) -> Iterator[Path | None]:
        """The point's folder while no other process has it; None where one does, or it is finished."""
        place = self._folder / f"lr={point.lr:.4g},decay={point.lr * point.decay_ratio:.4g}"
        place.mkdir(exist_ok=True)
        lock = FileLock(place / "lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield None
            return
        try:
            yield place if point not in self.scores() else None
        finally:
            lock.release()

    def add(self, point: Point, score: float | None) -> None:
        """Called by whoever holds the point; None where training diverged."""
        from optuna.distributions import BaseDistribution, CategoricalDistribution
        from optuna.trial import create_trial

        choices: dict[str, BaseDistribution] = {
            "lr": CategoricalDistribution(self.grid.lrs),
            "decay_ratio": CategoricalDistribution(self.grid.decay_ratios),
        }
        with self._readable_errors():
            self._study.add_trial(
                create_trial(
                    params=point._asdict(),
                    distributions=choices,
                    value=score or 0.0,
                    user_attrs={"diverged": True} if score is None else {},
                )
            )

    def _open(self) -> optuna.Study:
        import optuna
        from sqlalchemy import URL

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = URL.create("sqlite", database=str(self._file.absolute())).render_as_string()
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _BUSY}})
        return optuna.create_study(study_name="sweep", storage=storage, direction="maximize", load_if_exists=True)

    def _check(self, task: str) -> None:
        """Write down what this is a sweep of, or compare."""
        known, grid = self._study.user_attrs, msgspec.json.encode(self.grid).decode()
        if "grid" not in known:
            self._study.set_user_attr("task", task)
            self._study.set_user_attr("metric", self.metric)
            self._study.set_user_attr("grid", grid)
            return
        differs = difference(known["task"], task)
        if differs is None and known["grid"] != grid:
            differs = "another grid"
        if differs is None and known.get("metric") != self.metric:
            differs = f"another metric than {self.metric}"
        if differs is not None:
            raise CompoundNetError(
                f"{self._file} is a sweep with {differs}. Go on with the settings it was started with, give another"
                f" output (-o), or remove that file and {self._folder.name}/ beside it to begin anew"
            )

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = getattr(error.__cause__ or error, "orig", None) or error
            raise CompoundNetError(f"{self._file}: cannot be read or written: {reason}") from error
