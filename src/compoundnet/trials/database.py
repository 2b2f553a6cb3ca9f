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
# In seconds: how long SQLite waits for the write of another process, the timeout of a connection to PostgreSQL, and the
# time after which PostgreSQL releases the lock of a machine that has crashed.
_BUSY, _CONNECT, _LOST = 120, 10, 60
# The attributes in which optuna's successive halving, and so Hyperband, stores that it has judged a trial.
_COMPLETED_RUNG = "completed_rung_"
# "compoundn" in ASCII. Any number works as long as all workers use the same one.
_LOCK_KEY = 0x636F6D706F756E64
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Heartbeat(NamedTuple):
    """Seconds between heartbeats, and seconds without one after which a worker on another machine is presumed dead."""

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
        where: The place for messages, without a password.
        storage: The storage object of optuna.

    Raises:
        CompoundNetError: The place cannot be reached, or is not a database.
    """

    def __init__(self, place: str | Path, heartbeat: Heartbeat | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the worker reports a failed trial itself, in one line
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
        """Hold the only lock of the database. The system or the server releases it when this process is killed.

        A server also releases it after a minute without contact to this machine.
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
        """Queue a failed trial again with its parameters and attributes, as optuna does, but without its worker and
        without what the pruner has judged: it is judged again."""
        trial = copy.deepcopy(trial)
        trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name != WORKER}
        trial.system_attrs = {
            name: value for name, value in trial.system_attrs.items() if not name.startswith(_COMPLETED_RUNG)
        }
        self._retry(study, trial)

    def expect_heartbeat(self) -> None:
        """Announce that the next heartbeat will belong to a new trial."""
        self.storage.beating.clear()

    def await_heartbeat(self) -> None:
        """Wait until the first heartbeat of the new trial is stored: from then on a dead worker is noticed."""
        if self.folder is None:
            self.storage.beating.wait(_CONNECT)

    def close(self) -> None:
        """Close the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def secret_url(self) -> str:
        """Return the URL with its password, for a worker process only; it must not appear in a message."""
        return self._url.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turn errors of the database into a CompoundNetError of one line, without the password."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            # Not `from error`: a traceback would print the arguments of the driver, with the password.
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _readable_connection(self) -> Iterator[None]:
        """Turn the errors that occur only while connecting into a CompoundNetError."""
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
    """The storage of optuna; a lost heartbeat does not stop the next ones. `beating`: set once a heartbeat is
    stored."""

    def __init__(self, database: StudyDatabase, heartbeat: Heartbeat) -> None:
        server = database.folder is None
        arguments = {"connect_timeout": _CONNECT} if server else {"timeout": _BUSY}
        super().__init__(
            database.secret_url(),  # optuna expands braces in a URL; a URL with quoted parts contains none
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
        except (SQLAlchemyError, StorageInternalError) as error:  # unreachable; the next one may succeed
            _log.warning("a heartbeat was missed: %s", type(error).__name__)
        finally:
            self.remove_session()


def is_url(place: str | Path) -> bool:
    """Return whether the place of a study is a database server rather than a folder."""
    return isinstance(place, str) and "://" in place


def without_password(url: str) -> str:
    """Return the URL that may be stored; the password is then read from PGPASSWORD or ~/.pgpass."""
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
    """Call a function without the warning of optuna that it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return call(*arguments)
