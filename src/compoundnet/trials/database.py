"""The database of a study: an SQLite file for the workers of one machine, a PostgreSQL server for many machines."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from compoundnet.base import CompoundNetError
from compoundnet.trials.settings import WORKER

DATABASE = "study.db"
# Seconds that SQLite waits for another process's write, that connecting to PostgreSQL may take, and that it keeps the
# lock of a machine that has crashed.
_BUSY, _CONNECT, _LOST = 120, 10, 60
# "compoundn" in ASCII. Any number would do, as long as all workers take the same.
_LOCK_KEY = 0x636F6D706F756E64
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Heartbeat(NamedTuple):
    """Seconds between heartbeats, and without one after which a worker on another machine is presumed dead."""

    every: int = 10
    patience: int = 90


class StudyDatabase:
    """A database that can be reached.

    Args:
        place: A study's folder, which holds an SQLite file, or a PostgreSQL URL.
        heartbeat: How workers on other machines show that they are alive. Not used with SQLite: its workers run on one
            machine, where the lock files of `positions.Presence` are exact.

    Attributes:
        folder: The study's folder; None on a server.
        where: The place in words, without a password.
        storage: optuna's storage.

    Raises:
        CompoundNetError: The database cannot be reached, or is not one.
    """

    def __init__(self, place: str | Path, heartbeat: Heartbeat | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is reported by its worker, in one line
        self.folder = None if is_url(place) else Path(place)
        self._url = _postgresql(str(place)) if self.folder is None else _sqlite(self.folder)
        self.where = without_password(str(place)) if self.folder is None else str(self.folder)
        self._retry = _silently(RetryHeartbeatStaleTrialCallback)
        self._engine = None
        with self.readable_errors(), self._readable_connection():
            if self.folder is None:
                self._engine = create_engine(self._url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT})
            with self.lock():
                self.storage = _silently(_Storage, self, heartbeat or Heartbeat())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the database's one lock. It is released, by the system or the server, when this process is killed.

        A server also releases it after a minute in which nothing is heard of this machine.
        """
        if self.folder is not None:
            with FileLock(self.folder / f"{DATABASE}.lock"):
                yield
            return
        assert self._engine is not None
        with self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LOST}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield

    def fail_stale(self, study: optuna.Study) -> None:
        """Fail the trials whose workers have missed their heartbeats, and queue them again."""
        _silently(optuna.storages.fail_stale_trials, study)

    def retry(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue a failed trial again with its parameters and attributes, as optuna does, but without its worker."""
        trial = copy.deepcopy(trial)
        trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name != WORKER}
        self._retry(study, trial)

    def expect_heartbeat(self) -> None:
        """Say that the next heartbeat will be of a new trial."""
        self.storage.beating.clear()

    def await_heartbeat(self) -> None:
        """Wait until the new trial's first heartbeat is stored: from then on its death would be noticed."""
        if self.folder is None:
            self.storage.beating.wait(_CONNECT)

    def close(self) -> None:
        """Close the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def secret_url(self) -> str:
        """Return the URL with its password: for a worker's process, never for a message."""
        return self._url.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turn the database's errors into a CompoundNetError of one line, without the password."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            # Not `from error`: a traceback would print what the driver was given.
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _readable_connection(self) -> Iterator[None]:
        """Turn what only connecting raises into a CompoundNetError."""
        try:
            yield
        except ImportError as error:
            raise CompoundNetError(
                f"{self.where} needs the library psycopg: pip install 'compoundnet[postgresql]'"
            ) from error
        except (OSError, RuntimeError) as error:  # no permission; a file of another version of optuna
            raise self._unusable(error) from None

    def _unusable(self, error: BaseException) -> CompoundNetError:
        while error.__cause__ is not None:
            error = error.__cause__
        message = " ".join(str(error).split()) or type(error).__name__
        for password in (self._url.password, self._url.query.get("password")):
            message = message.replace(str(password), "***") if password else message
        return CompoundNetError(f"{self.where} cannot be used as storage: {message}")


class _Storage(RDBStorage):
    """optuna's storage; a lost heartbeat does not stop the next ones. `beating` is set once a heartbeat is stored."""

    def __init__(self, database: StudyDatabase, heartbeat: Heartbeat) -> None:
        server = database.folder is None
        arguments = {"connect_timeout": _CONNECT} if server else {"timeout": _BUSY}
        super().__init__(
            database.secret_url(),  # optuna expands braces in a URL; one whose parts are quoted has none
            {"connect_args": arguments, "pool_pre_ping": True},
            heartbeat_interval=heartbeat.every if server else None,
            grace_period=heartbeat.patience if server else None,
            heartbeat_stale_trial_callback=database.retry if server else None,
        )
        self.beating = threading.Event()

    def record_heartbeat(self, trial_id: int) -> None:
        try:
            super().record_heartbeat(trial_id)
            self.beating.set()
        except (SQLAlchemyError, StorageInternalError) as error:  # a server that is away: the next beat may reach it
            _log.warning("a heartbeat was missed: %s", type(error).__name__)
        finally:
            self.remove_session()


def is_url(place: str | Path) -> bool:
    """Return whether a study's place is a database server rather than a folder."""
    return isinstance(place, str) and "://" in place


def without_password(url: str) -> str:
    """Return what may be written down; the password is then looked up in PGPASSWORD or ~/.pgpass."""
    read = _postgresql(url).difference_update_query(["password"])
    bare = URL.create("postgresql", read.username, None, read.host, read.port, read.database, read.query)
    return bare.render_as_string()


def _postgresql(url: str) -> URL:
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        # The URL is not repeated: it may hold a password.
        raise CompoundNetError(
            "the storage's URL cannot be read; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / ? #"
            " of the password written as %40 %3A %2F %3F %23"
        ) from None
    if read.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise CompoundNetError(
            f"the storage is {read.drivername}://; expected postgresql://USER@HOST/DATABASE, or no --storage for a file"
            " in the study's folder"
        )
    return read.set(drivername="postgresql+psycopg")


def _sqlite(folder: Path) -> URL:
    return URL.create("sqlite", database=str((folder / DATABASE).absolute()))


def _silently(call: Callable[..., T], *arguments: object) -> T:
    """Call what optuna calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return call(*arguments)
