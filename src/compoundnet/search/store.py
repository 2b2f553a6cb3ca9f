"""The database under a study: an SQLite file for one machine, a PostgreSQL server for many; and its one lock."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import URL

DATABASE = "study.db"
# Seconds: how long SQLite waits for another process's write, and PostgreSQL for an answer to the first knock.
_BUSY, _CONNECT = 120, 10
# "compoundn" in ASCII: any number does, as long as all of us take the same.
_LOCK_KEY = 0x636F6D706F756E64


class Store:
    """A reachable database. `where` names it for people, without its password."""

    def __init__(self, place: str | Path) -> None:
        """`place` is a study's folder, or a PostgreSQL URL. Raises CompoundNetError where it cannot be reached."""
        import optuna
        import sqlalchemy

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = None if is_url(place) else Path(place)
        self._url = url = _postgresql(str(place)) if is_url(place) else _sqlite(Path(place))
        self.where = without_password(str(place)) if self.folder is None else str(self.folder)
        self._lock_engine = None
        with self.readable_errors(), self._unreadable_database():
            if self.folder is None:
                self._lock_engine = sqlalchemy.create_engine(
                    url, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": _CONNECT}
                )
            with self.lock(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what optuna calls experimental
                self.database = self._connect()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one process in the world. The system, or the server, lets go of it when that process is killed."""
        if self._lock_engine is None:
            from filelock import FileLock

            assert self.folder is not None
            with FileLock(self.folder / f"{DATABASE}.lock"):
                yield
            return
        from sqlalchemy import text

        with self._lock_engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield

    def close(self) -> None:
        """Let go of the connections."""
        self.database.remove_session()
        self.database.engine.dispose()

    def secret_url(self) -> str:
        """With its password: for a worker's environment, never for a message."""
        return self._url.render_as_string(hide_password=False)

    def _connect(self) -> RDBStorage:
        from optuna.storages import RDBStorage

        arguments = {"timeout": _BUSY} if self.folder is not None else {"connect_timeout": _CONNECT}
        # optuna fills braces in; there are none but a template's in a URL whose parts are quoted.
        return RDBStorage(self.secret_url(), engine_kwargs={"connect_args": arguments, "pool_pre_ping": True})

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        """What the database raises, as one line without its password."""
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            # Not `from error`: a traceback would print what the driver was given.
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _unreadable_database(self) -> Iterator[None]:
        """What connecting raises beside the database's own errors."""
        try:
            yield
        except ImportError as error:
            raise CompoundNetError(
                f"{self.where} needs the library psycopg: pip install 'compoundnet[postgresql]'"
            ) from error
        except (OSError, RuntimeError) as error:  # no permission; a file of another version of optuna's
            raise self._unusable(error) from None

    def _unusable(self, error: BaseException) -> CompoundNetError:
        return CompoundNetError(f"{self.where} cannot be used as storage: {self._without_password(_root(error))}")

    def _without_password(self, text: str) -> str:
        for password in (self._url.password, self._url.query.get("password")):
            text = text.replace(str(password), "***") if password else text
        return text


def is_url(place: str | Path) -> bool:
    """Whether a study's place is a database server rather than a folder."""
    return isinstance(place, str) and "://" in place


def without_password(url: str) -> str:
    """What may be written down: a URL whose password is to be found elsewhere (PGPASSWORD, ~/.pgpass)."""
    from sqlalchemy import URL

    read = _postgresql(url).difference_update_query(["password"])
    bare = URL.create("postgresql", read.username, None, read.host, read.port, read.database, read.query)
    return bare.render_as_string()


def _postgresql(text: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Nothing of the text is said: it may hold a password.
        raise CompoundNetError(
            "the storage's URL cannot be read; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / ? #"
            " of the password written as %40 %3A %2F %3F %23"
        ) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise CompoundNetError(
            f"the storage is {url.drivername}://; expected postgresql://USER@HOST/DATABASE, or no --storage for a file"
            " in the study's folder"
        )
    return url.set(drivername="postgresql+psycopg")


def _sqlite(folder: Path) -> URL:
    from sqlalchemy import URL

    return URL.create("sqlite", database=str((folder / DATABASE).absolute()))


def _root(error: BaseException) -> str:
    """What the first cause says, in the server's own words, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
