"""Studies: creating one with all its trials waiting, and opening one that is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean, make_folder, read_toml, write_whole
from compoundnet.search.settings import Search, as_toml, check_same, decode, encode
from compoundnet.search.store import DATABASE, Store, is_url, without_password

if TYPE_CHECKING:
    import optuna

# In its own folder a study needs no name.
NAME = "search"
_SEARCH, _DATA = "search", "data"
_ELSEWHERE = "storage.toml"


class Opened(msgspec.Struct, frozen=True, eq=False):
    """An opened study: optuna's, the search whose trials it holds, what its pictures are, and the database."""

    study: optuna.Study
    search: Search
    data: str
    store: Store


class Elsewhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """storage.toml of a folder whose study lies on a server. `url` is without password."""

    url: str
    study: str


def study_name(folder: Path) -> str:
    """What the study of a folder is called on a server."""
    return folder.absolute().name


def create_study(search: Search, data: str, folder: Path, storage: str | None = None) -> Opened:
    """Make a study with all its trials waiting, or open the one there is, which must be of the same search.

    data     `measuring.data_identity` of the pictures
    storage  a PostgreSQL URL; FOLDER/study.db unless given

    Called again after an interruption it goes on where it was: nothing is made twice.
    """
    import optuna
    from optuna.study import StudyDirection

    check_folder(folder, storage)
    name = NAME if storage is None else study_name(folder)
    if storage is not None:
        store = Store(storage)  # before anything is written: it may not be reachable
    make_folder(folder)
    if storage is None:
        store = Store(folder)
    with store.readable_errors(), store.lock():
        study = optuna.create_study(
            study_name=name,
            storage=store.database,
            sampler=search.sampler(),
            pruner=search.pruner(),
            directions=[StudyDirection[direction.upper()] for direction in search.directions()],
            load_if_exists=True,
        )
        attributes = study.user_attrs
        if _SEARCH in attributes:
            _check(attributes, search, data, _where(store, name))
        else:
            study.set_user_attr(_DATA, data)
            study.set_user_attr(_SEARCH, encode(search))
        for _ in range(search.trials() - len(study.get_trials(deepcopy=False))):
            study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    if storage is not None:
        write_whole(folder / _ELSEWHERE, msgspec.toml.encode(Elsewhere(without_password(storage), name)))
    write_whole(folder / "search.toml", as_toml(search).encode())
    return Opened(study, search, data, store)


def open_study(storage: str | Path, name: str | None = None) -> Opened:
    """The study in a folder, or of that name at a PostgreSQL URL.

    Raises CompoundNetError where there is none, or its storage cannot be reached.
    """
    import optuna

    storage, name = _resolve(storage, name)
    store = Store(storage)
    with store.readable_errors(), store.lock():
        names = optuna.get_all_study_names(store.database)
        if name not in names:
            store.close()
            raise CompoundNetError(f"{store.where} has no study named {name!r}{_known(name, names)}")
        study = optuna.load_study(study_name=name, storage=store.database)
        attributes = study.user_attrs
        if _SEARCH not in attributes:
            store.close()
            raise CompoundNetError(
                f"{_where(store, name)} is no study of compoundnet's, or was not begun; run the command that makes it"
            )
    search = decode(attributes[_SEARCH], _where(store, name))
    study.sampler, study.pruner = search.sampler(), search.pruner()
    return Opened(study, search, attributes[_DATA], store)


def is_begun(folder: Path) -> bool:
    """Whether a study was made in, or from, this folder."""
    return (folder / DATABASE).exists() or (folder / _ELSEWHERE).exists()


def check_folder(folder: Path, storage: str | None) -> None:
    """Raise where a folder may not hold the study that is to lie in it (or, with a URL, at that server)."""
    if storage is not None and not is_url(storage):
        raise CompoundNetError(
            f"--storage is for postgresql://USER@HOST/DATABASE, got {storage}; a folder is given as -o, without it"
        )
    if storage is None and (folder / _ELSEWHERE).exists():
        raise CompoundNetError(
            f"{folder}: its study lies at {read_toml(folder / _ELSEWHERE, Elsewhere).url}; give it as --storage, or"
            " another output (-o)"
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
        return folder, NAME
    if (folder / _ELSEWHERE).exists():
        elsewhere = read_toml(folder / _ELSEWHERE, Elsewhere)
        return elsewhere.url, elsewhere.study
    raise CompoundNetError(f"{folder}: there is no study here (no {DATABASE})")


def _check(attributes: dict[str, str], search: Search, data: str, where: str) -> None:
    check_same(decode(attributes[_SEARCH], where), search, where)
    if attributes[_DATA] != data:
        raise CompoundNetError(
            f"{where} was begun with other pictures under the name {search.data}: classes, names or counts differ."
            " Use the same pictures, or give another output (-o)"
        )


def _where(store: Store, name: str) -> str:
    return store.where if store.folder is not None else f"study {name!r} at {store.where}"


def _known(name: str, names: Iterable[str]) -> str:
    listed = list(names)
    return did_you_mean(name, listed) if listed else "; it holds none"
