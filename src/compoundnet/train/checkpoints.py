"""The checkpoints of a run: each is written completely or not at all, and the last few are kept."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any, Literal

import torch

from compoundnet.base import CompoundNetError, first_line, make_folder, remove_all_scratch, whole_file

_log = logging.getLogger(__name__)
_DAMAGED = ".damaged"
_NAME = re.compile(r"step-(\d{9})\.pt")


class Checkpoints:
    """Files `step-NNNNNNNNN.pt` in `folder`, of which the last `keep` are kept."""

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

    def load(self, step: int | None = None) -> dict[str, Any] | None:
        """Load the newest readable checkpoint, or that after `step`; return None if there is none.

        A damaged checkpoint is logged, renamed to `.damaged` so that it is not counted by `keep`, and skipped.
        """
        for path in reversed(self.paths()) if step is None else [self.path(step)]:
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            except Exception as error:  # damaged bytes can make the reader raise anything
                _log.warning("%s cannot be read (%s)", path, _of_the_system(error) or "it is damaged")
                if step is None:
                    with contextlib.suppress(OSError):
                        path.rename(path.with_suffix(_DAMAGED))
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


def _of_the_system(error: BaseException) -> str | None:
    """Return the operating system's message, if it gave one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return None
