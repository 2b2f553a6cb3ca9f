"""The checkpoints of a run: each is written completely or not at all, and the last few are kept."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any, Literal

import torch

from compoundnet.base import (
    CompoundNetError,
    first_line,
    is_out_of_memory,
    make_folder,
    remove_all_scratch,
    whole_file,
)

_log = logging.getLogger(__name__)
_DAMAGED = ".damaged"
_NAME = re.compile(r"step-(\d{9})\.pt")


class DamagedError(CompoundNetError):
    """All checkpoints of a run are damaged."""


class Checkpoints:
    """Files `step-NNNNNNNNN.pt` in `folder`, of which the last `keep` are kept.

    Attributes:
        lasting: Whether a run can go on from what is saved.
    """

    lasting = True

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """Return the paths of the checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*.pt") if _NAME.fullmatch(path.name))

    def path(self, step: int) -> Path:
        """Return the path of the checkpoint after that step."""
        return self.folder / f"step-{step:09d}.pt"

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a checkpoint and delete the oldest beyond `keep`. Raises CompoundNetError on failure; earlier ones
        stay."""
        path = self.path(step)
        try:
            make_folder(self.folder)
            # Written through a Python file, because torch's writer does not report the error of the system.
            with whole_file(path) as written, written.open("wb") as file:
                torch.save(state, file)
        except (CompoundNetError, RuntimeError) as error:  # torch raises RuntimeError when a write fails
            raise CompoundNetError(
                f"{path}: the checkpoint cannot be saved: {_of_the_system(error) or first_line(error)}. {self._left()}"
            ) from error
        for old in self.paths()[: -self._keep]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """Load the newest checkpoint that is not damaged; return None if there are none.

        Damaged ones that are newer are logged, and renamed to `.damaged` so that they are not counted by `keep`.

        Raises:
            DamagedError: all of them are damaged.
            CompoundNetError: a checkpoint cannot be read now, though it may be good.
        """
        damaged: list[Path] = []
        for path in reversed(self.paths()):
            state = _read(path)
            if state is not None:
                # Not before another is found, so that a run without a good one does not start again by itself.
                for other in damaged:
                    with contextlib.suppress(OSError):
                        other.rename(other.with_suffix(_DAMAGED))
                return state
            damaged.append(path)
        if damaged:
            raise DamagedError(
                f"{self.folder}: all checkpoints are damaged, so there is none to go on from: start again with --force;"
                " or remove this folder, and --resume starts the training that it belongs to again"
            )
        return None

    def load_step(self, step: int) -> dict[str, Any] | None:
        """Load the checkpoint after `step`; return None, and log why, if it cannot be read."""
        try:
            return _read(self.path(step))
        except CompoundNetError as error:
            _log.warning("%s", error)
            return None

    def finish(self, kept: Literal["last", "all", "none"]) -> None:
        """Delete what is not to be kept of a finished run."""
        if kept != "all":
            for path in self.paths()[: -1 if kept == "last" else None]:
                path.unlink()

    def clear(self) -> None:
        """Delete all checkpoints, and the remains of an interrupted save."""
        for path in self.folder.glob("step-*"):
            path.unlink()
        remove_all_scratch(self.folder)

    def _left(self) -> str:
        paths = self.paths()
        if not paths:
            return "Make room and start again"
        return f"{paths[-1].name} is the last good one: make room, and resume from it with --resume"


def _read(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None, and a line in the log, if it is damaged.

    Raises:
        CompoundNetError: the system does not let it be read.
    """
    try:
        # Read through a Python file, because torch's reader does not tell an error of the system from damage.
        with path.open("rb") as file:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state
    except Exception as error:  # damaged bytes can make the reader raise anything else
        short = is_out_of_memory(error)
        if not short and not isinstance(error, OSError):
            _log.warning("%s cannot be read (it is damaged)", path)
            return None
        why = "there is too little free memory" if short else _of_the_system(error) or first_line(error)
        raise CompoundNetError(
            f"{path}: the checkpoint cannot be read: {why}. It may be good: solve this, and --resume goes on from it;"
            " or remove it to go back further"
        ) from error


def _of_the_system(error: BaseException) -> str | None:
    """Return the operating system's message, if it gave one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return None
