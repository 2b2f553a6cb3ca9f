"""The log of a run: log.csv with a line for each epoch, and Lightning Fabric's loggers."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import CompoundNetError, first_line, write_whole
from compoundnet.train.status import Epoch

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

    from compoundnet.train.recipe import Recipe

_log = logging.getLogger(__name__)
# What is called of a logger. The class is not asked for: that of the package `lightning` is another one.
_METHODS = ("log_metrics", "log_hyperparams", "save", "finalize")
# Steps between points in the loggers.
_EVERY = 10


class Logs:
    """Writes log.csv below `folder`, and reports to loggers.

    A logger gets `loss` and `lr` every 10 steps, the values of each `Epoch` as `epoch/loss`, `epoch/held_top1` and so
    on, and the recipe as its hyperparameters. A logger that raises an exception is dropped with a warning; training
    continues.

    Args:
        folder: The folder to write to; None writes nothing, as on every process except the first.
        loggers: Lightning's (`TensorBoardLogger`, `CSVLogger`, `WandbLogger`, `MLFlowLogger`, ...) or your own subclass
            of `lightning_fabric.loggers.Logger`. By default TensorBoard's, in the folder `tensorboard`.

    Raises:
        CompoundNetError: an item of `loggers` is not a logger.
    """

    def __init__(self, folder: Path | None, loggers: Sequence[Logger] | None = None) -> None:
        for logger in loggers or ():
            _check_logger(logger)
        self._folder, self._given = folder, loggers
        self._loggers: list[Logger] = []

    @contextlib.contextmanager
    def writing(self, step: int, recipe: Recipe | None = None) -> Iterator[None]:
        """Open the loggers, and close them when the block ends. TensorBoard's drops its points beyond `step`.

        Args:
            step: The steps done so far; a run that resumes repeats those after its checkpoint.
            recipe: The hyperparameters.
        """
        if self._folder is None:
            yield
            return
        self._loggers = list(_tensorboard(self._folder, step) if self._given is None else self._given)
        status = "failed"
        try:
            if recipe is not None and self._given is not None:  # recipe.toml has them
                self._each(lambda logger: _report_recipe(logger, recipe))
            yield
            status = "success"
        finally:
            self._each(lambda logger: logger.finalize(status))

    def step(self, step: int, loss: float, lr: float) -> None:
        """Report a step that is done."""
        if step % _EVERY == 0:
            self._report(step, {"loss": loss, "lr": lr})

    def epoch(self, history: list[Epoch]) -> None:
        """Report the last epoch of `history`; log.csv is rewritten from all of it, so that resuming loses no line."""
        if self._folder is None:
            return
        write_whole(self._folder / "log.csv", as_csv(history))
        values = msgspec.structs.asdict(history[-1])
        _, step = values.pop("epoch"), values.pop("step")
        self._report(step, {f"epoch/{name}": value for name, value in values.items() if value is not None})

    def _report(self, step: int, values: dict[str, float]) -> None:
        def report(logger: Logger) -> None:
            logger.log_metrics(values, step)
            logger.save()

        self._each(report)

    def _each(self, work: Callable[[Logger], object]) -> None:
        for logger in list(self._loggers):
            try:
                work(logger)
            except Exception as error:  # a full disk, a lost network, an error in the user's logger
                reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
                _log.warning("%s failed (%s); training goes on without it", type(logger).__name__, reason)
                self._loggers.remove(logger)


def as_csv(history: list[Epoch]) -> bytes:
    """Return a header and a line for each epoch; values that were not evaluated are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch.__struct_fields__)
    for epoch in history:
        writer.writerow("" if value is None else value for value in msgspec.structs.astuple(epoch))
    return text.getvalue().encode()


def _tensorboard(folder: Path, step: int) -> list[Logger]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of TensorBoard's dependencies
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger  # noqa: PLC0415  slow; few processes log

        return [TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1)]


def _report_recipe(logger: Logger, recipe: Recipe) -> None:
    with contextlib.suppress(NotImplementedError):  # Fabric's CSVLogger takes no hyperparameters
        logger.log_hyperparams(recipe.fields())


def _check_logger(given: object) -> None:
    if not all(callable(getattr(given, name, None)) for name in _METHODS):
        raise CompoundNetError(
            f"loggers must be instances of lightning_fabric.loggers.Logger, such as TensorBoardLogger(folder), got"
            f" {given!r}"
        )
