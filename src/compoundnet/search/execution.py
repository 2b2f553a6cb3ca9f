"""The execution of a search, from its settings to its result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from compoundnet.base.progress import Notify, ignore
from compoundnet.data import Dataset
from compoundnet.search.kinds import Search, open_study
from compoundnet.search.report import write_report, write_result
from compoundnet.trials.local_workers import work_together
from compoundnet.trials.measurement import check_one_class, data_identity
from compoundnet.trials.network_judge import NetworkJudge
from compoundnet.trials.studies import OpenedStudy, create_study
from compoundnet.trials.worker import work


def run(
    search: Search,
    dataset: Dataset,
    folder: Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    notify: Notify = ignore,
) -> OpenedStudy[Search]:
    """Create the study in `folder` or continue it, work until it is finished, and write result.toml and the report.

    Args:
        storage: A PostgreSQL URL; FOLDER/study.db unless given. The study is then named after the folder.
        workers: The number of worker processes. Each trains in one thread.
        notify: Called with a line of text for each finished trial.

    Raises:
        InterruptedRunError: This process was asked to stop. The same call continues the study.
        CompoundNetError: The folder holds another search, the storage cannot be used, or every worker has failed.
    """
    check_one_class(dataset)
    opened = create_study(search, data_identity(dataset), folder, storage)
    judge = NetworkJudge(opened, dataset)
    with opened.database.readable_errors():
        if workers == 1:
            work(opened, judge, notify=notify)
        else:
            place = folder.absolute() if storage is None else opened.database.secret_url()
            work_together(
                opened, functools.partial(_join, place, opened.study.study_name, dataset), judge, workers, notify
            )
        write_report(opened, folder)  # also where there is no result, because every training diverged
        write_result(opened, folder)
    return opened


def _join(place: str | Path, name: str, dataset: Dataset, go_on: Callable[[], bool]) -> None:
    """Work on a study in a separate process."""
    opened = open_study(place, name)
    try:
        work(opened, NetworkJudge(opened, dataset), go_on=go_on)
    finally:
        opened.close()
