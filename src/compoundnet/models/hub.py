"""The Hugging Face hub: repositories by name (`hf-hub:OWNER/NAME`), their files, and what can go wrong.

What huggingface_hub has in its cache is used where the hub cannot be reached.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify, first_line, ignore, need

PREFIX = "hf-hub:"
_STARTS = (PREFIX, "hf_hub:", "https://huggingface.co/")
_NAME = re.compile(r"(?:hf-hub:|hf_hub:|https://huggingface\.co/)([\w.-]+/[\w.-]+?)(?:(?:@|/tree/)([\w./-]+))?/?")
_PATIENCE = 4.0  # seconds to wait for a connection before the hub counts as out of reach
# What a repository may hold that is read: the files of a model folder, configurations, and weights by preference.
OWN_FILES = re.compile(r"[\w-]+\.toml|labels\.txt|README\.md|SHA256SUMS|weights\.safetensors")
_CONFIGS = ("config.json", "preprocessor_config.json")
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")


class Repository(msgspec.Struct, frozen=True):
    """A repository of the hub.

    Attributes:
        name: OWNER/NAME.
        revision: A branch, tag or commit; None for the newest of its main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def page(self) -> str:
        """The address of its page."""
        from huggingface_hub.constants import ENDPOINT  # noqa: PLC0415  not in the base install

        return f"{ENDPOINT}/{self.name}"


def is_hub_name(given: str | os.PathLike[str]) -> bool:
    """Return whether a MODEL is meant as a repository of the hub."""
    return isinstance(given, str) and given.startswith(_STARTS)


def parse_hub_name(given: str) -> Repository:
    """Return the repository that `hf-hub:OWNER/NAME`, with `@REVISION` or not, names, or the address of its page.

    Raises:
        CompoundNetError: The text has another form.
    """
    found = _NAME.fullmatch(given)
    if found is None:
        raise CompoundNetError(f"{given}: a repository of the hub is given as {PREFIX}OWNER/NAME, or with @REVISION")
    return Repository(found[1], found[2].rstrip("/") if found[2] else None)


def download(repository: Repository, notify: Notify = ignore) -> Path:
    """Download the files of a repository that make a model, and return their folder in huggingface_hub's cache.

    Args:
        repository: The repository.
        notify: Called if the hub cannot be reached and the copy in the cache is taken.

    Raises:
        CompoundNetError: There is no such repository, it may not be read, it holds no weights, or the hub cannot be
            reached and the cache lacks it.
    """
    need("huggingface_hub", "fetching from the hub")
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download  # noqa: PLC0415  not in the base install
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        with hub_errors(repository, "fetch"):
            check_reachable()
            info = HfApi().model_info(repository.name, revision=repository.revision, timeout=10)
            files = needed_files([one.rfilename for one in info.siblings or ()], repository)
            paths = [Path(hf_hub_download(repository.name, file, revision=repository.revision)) for file in files]
            return paths[0].parent
    except HubUnreachableError as error:
        try:
            found = Path(snapshot_download(repository.name, revision=repository.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from error.__cause__
        notify(f"{error.why}; took the copy of {repository} in {found}")
        return found


def needed_files(names: list[str], repository: Repository) -> list[str]:
    """Choose the files of a repository that make a model: ours, or configurations and one set of weights.

    Raises:
        CompoundNetError: There are no weights among them.
    """
    from compoundnet.models.hub_folders import WEIGHTS  # noqa: PLC0415

    if "network.toml" in names:
        return [name for name in names if OWN_FILES.fullmatch(name)]
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None:
        others = [name for name in names if name.endswith((".safetensors", ".bin", ".pth", ".ckpt", ".keras", ".h5"))]
        if len(others) != 1:
            held = f"several files of weights ({', '.join(others[:5])})" if others else "no weights"
            raise CompoundNetError(
                f"{repository.page} holds {held}; expected {WEIGHTS[0]}. Download one file and run `compoundnet models"
                " convert FILE -o FOLDER`"
            )
        weights = others[0]
    stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
    parts = [name for name in names if _SHARD.fullmatch(name) and name.startswith(stem) and name.endswith(suffix)]
    return [weights, *(parts if weights.endswith(".index.json") else ()), *(one for one in _CONFIGS if one in names)]


class HubUnreachableError(CompoundNetError):
    """The hub cannot be reached.

    Attributes:
        why: What stands in the way.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class _NoConnectionError(ConnectionError):
    """No connection to the hub was begun."""


def check_reachable() -> None:
    """Raise a ConnectionError after a few seconds if the hub's machine accepts no connection, or at once if its name is
    unknown. huggingface_hub itself tries for half a minute."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE  # noqa: PLC0415  not in the base install

    if HF_HUB_OFFLINE:
        raise _NoConnectionError("HF_HUB_OFFLINE is set")
    address = urllib.parse.urlsplit(ENDPOINT)
    if urllib.request.getproxies().get(address.scheme) and not urllib.request.proxy_bypass(address.hostname or ""):
        return  # a proxy connects, and resolves the name
    port = address.port or (443 if address.scheme == "https" else 80)
    problem: list[OSError] = [TimeoutError("no answer")]

    def connect() -> None:
        try:
            socket.create_connection((address.hostname or "", port), timeout=_PATIENCE).close()
            problem.clear()
        except OSError as error:
            problem[:] = [error]

    # The lookup of a name has no timeout of its own.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(_PATIENCE)
    for error in list(problem):
        raise _NoConnectionError(f"{address.hostname}: {error.strerror or error}") from error


@contextmanager
def hub_errors(repository: Repository, verb: str, remedy: str = "") -> Iterator[None]:
    """Raise a CompoundNetError that says what to do, for each error of huggingface_hub inside the block.

    Args:
        repository: The repository, for messages.
        verb: `fetch` or `push`.
        remedy: What to do without a connection.
    """
    from huggingface_hub.errors import (  # noqa: PLC0415  not in the base install
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except CompoundNetError:
        raise
    except GatedRepoError as error:
        raise CompoundNetError(
            f"{repository.page} must be asked for access: accept its terms there, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise CompoundNetError(
            f"there is no model {repository.name} on the hub ({repository.page}), or it is private: `hf auth login`"
            " makes yours known"
        ) from error
    except RevisionNotFoundError as error:
        raise CompoundNetError(f"{repository.page} has no revision {repository.revision}") from error
    except (_NoConnectionError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE")
        why = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached ({first_line(error)})"
        way = remedy or "; get a connection, or a copy of it in the cache of huggingface_hub"
        raise HubUnreachableError(
            f"{repository} cannot be {'fetched' if verb == 'fetch' else 'pushed'}: {why}{way}", why
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise CompoundNetError(
                f"{repository.page} refused to {verb} ({status}): the token of `hf auth login` or HF_TOKEN is missing,"
                f" or has no right to {'write' if verb == 'push' else 'read'} there"
            ) from error
        raise CompoundNetError(f"{repository.page} refused to {verb}: {first_line(error)}") from error
    except Exception as error:  # a broken connection raises whatever the underlying HTTP library raises
        raise CompoundNetError(
            f"the hub broke off ({repository.page}): {first_line(error.__cause__ or error)}"
        ) from error
