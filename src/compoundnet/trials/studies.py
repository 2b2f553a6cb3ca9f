"""Creating and opening studies, in a folder or on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import optuna
from optuna.study import StudyDirection

from compoundnet.base import CompoundNetError, did_you_mean, make_folder, read_toml, write_whole
from compoundnet.trials.database import DATABASE, Heartbeat, StudyDatabase, is_url, without_password
from compoundnet.trials.positions import counted
from compoundnet.trials.settings import Settings, as_toml, check_same

# A study in a folder needs no name.
_NAME = "search"
_SETTINGS, _DATA = "search", "data"
_ELSEWHERE = "storage.toml"
_SEARCH = "search.toml"


S = TypeVar("S", bound=Settings)


class OpenedStudy(msgspec.Struct, Generic[S], frozen=True, eq=False):
    """An opened study.

    Attributes:
        study: The study object of optuna.
        settings: The settings of the search.
        data: The identity of the images with which it was begun.
        database: The database that holds it.
    """

    study: optuna.Study
    settings: S
    data: str
    database: StudyDatabase

    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """Return the finished trials that count, one for each position, in order of position."""
        return counted(self.study.get_trials(deepcopy=False))

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()


class StudyElsewhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of storage.toml, in a folder whose study is stored on a server. `url` contains no password."""

    url: str
    study: str


def study_name(folder: Path) -> str:
    """Return the name on a server of the study of a folder."""
    return folder.absolute().name


def create_study(
    settings: S, data: str, folder: Path, storage: str | None = None, *, heartbeat: Heartbeat | None = None
) -> OpenedStudy[S]:
    """Create a study, or open the existing one, which must have the same settings and data.

    Args:
        data: The identity of the images.
        folder: The study's folder. search.toml in it holds the settings, for people.
        storage: A PostgreSQL URL; FOLDER/study.db unless given. The study is then named after the folder.
        heartbeat: The heartbeat of this worker, which it also expects of the others.
    """
    check_folder(folder, storage)
    name = _NAME if storage is None else study_name(folder)
    if storage is not None:
        database = StudyDatabase(storage, heartbeat)  # before anything is written, because it may be unreachable
    make_folder(folder)
    if storage is None:
        database = StudyDatabase(folder)
    where, text = _where(database, name), msgspec.json.encode(settings).decode()
    with database.readable_errors(), database.lock():
        study = optuna.create_study(
            study_name=name, storage=database.storage, sampler=settings.sampler(), pruner=settings.pruner(),
            directions=[StudyDirection[direction.upper()] for direction in settings.directions()], load_if_exists=True,
        )  # fmt: skip
        attributes = study.user_attrs
        if _SETTINGS in attributes:
            check_same(attributes[_SETTINGS], text, where)
            if attributes[_DATA] != data:
                raise CompoundNetError(
                    f"{where} was begun with other images: classes, names or counts differ. Use the same images, or"
                    " give another output (-o)"
                )
        elif (folder / _SEARCH).exists():
            raise CompoundNetError(
                f"{where} holds no study any more, but {folder} holds the files of one ({_SEARCH}): its database was"
                " emptied or removed. Restore it from a copy, or give another output (-o)"
            )
        else:
            study.set_user_attr(_DATA, data)
            study.set_user_attr(_SETTINGS, text)
    if storage is not None:
        write_whole(folder / _ELSEWHERE, msgspec.toml.encode(StudyElsewhere(without_password(storage), name)))
    write_whole(folder / _SEARCH, as_toml(settings))
    return OpenedStudy(study, settings, data, database)


def open_study(
    storage: str | Path, decode: Callable[[str, str], S], name: str | None = None, *, heartbeat: Heartbeat | None = None
) -> OpenedStudy[S]:
    """Open the study in a folder, or the study of that name at a PostgreSQL URL.

    Args:
        decode: Called with the JSON document of the settings and its place; returns the settings.
        heartbeat: The heartbeat of this worker, which it also expects of the others.

    Raises:
        CompoundNetError: There is no study, or its storage cannot be reached.
    """
    storage, name = _resolve(storage, name)
    database = StudyDatabase(storage, heartbeat)
    with database.readable_errors(), database.lock():
        names = optuna.get_all_study_names(database.storage)
        if name not in names:
            database.close()
            raise CompoundNetError(f"{database.where} has no study named {name!r}{_known(name, names)}")
        study = optuna.load_study(study_name=name, storage=database.storage)
        attributes = study.user_attrs
        if _SETTINGS not in attributes:
            database.close()
            raise CompoundNetError(
                f"{_where(database, name)} is not a study of compoundnet, or has not begun; run the command that makes"
                " it"
            )
    settings = decode(attributes[_SETTINGS], _where(database, name))
    study.sampler, study.pruner = settings.sampler(), settings.pruner()
    return OpenedStudy(study, settings, attributes[_DATA], database)


def is_begun(folder: Path) -> bool:
    """Return whether a study was made in, or from, this folder."""
    return (folder / DATABASE).exists() or (folder / _ELSEWHERE).exists()


def check_folder(folder: Path, storage: str | None) -> None:
    """Raise if a folder may not hold the new study (or, with a URL, the folder of a study on that server)."""
    if storage is not None and not is_url(storage):
        raise CompoundNetError(
            f"--storage is for postgresql://USER@HOST/DATABASE, got {storage}; a folder is given as -o, without it"
        )
    if storage is None and (folder / _ELSEWHERE).exists():
        raise CompoundNetError(
            f"{folder}: its study lies at {read_toml(folder / _ELSEWHERE, StudyElsewhere).url}; give it as --storage,"
            " or another output (-o)"
        )
    if storage is not None and (folder / DATABASE).exists():
        raise CompoundNetError(
            f"{folder}: holds its study itself, in {DATABASE}; leave --storage out, or give another output (-o)"
        )
    if (
        folder.is_dir()
        and any(folder.iterdir())
        and not is_begun(folder)
        and not (folder / f"{DATABASE}.lock").exists()
    ):
        raise CompoundNetError(f"{folder} holds other files and no study; give a new folder (-o)")


def _resolve(storage: str | Path, name: str | None) -> tuple[str | Path, str]:
    if is_url(storage):
        if name is None:
            raise CompoundNetError("give the study's name: it is that of the folder it was started with (-o)")
        return storage, name
    folder = Path(storage)
    if (folder / DATABASE).exists():
        return folder, _NAME
    if (folder / _ELSEWHERE).exists():
        elsewhere = read_toml(folder / _ELSEWHERE, StudyElsewhere)
        return elsewhere.url, elsewhere.study
    raise CompoundNetError(f"{folder}: there is no study here (no {DATABASE})")


def _where(database: StudyDatabase, name: str) -> str:
    return database.where if database.folder is not None else f"study {name!r} at {database.where}"


def _known(name: str, names: Iterable[str]) -> str:
    listed = list(names)
    return did_you_mean(name, listed) if listed else "; it holds none"
