"""Repositories of the Hugging Face hub as model folders in the cache."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from compoundnet.base import Notify, ignore, remove_scratch, whole_folder, write_errors
from compoundnet.base.machine import cached_model_folder
from compoundnet.models.folder import read_folder, write_folder
from compoundnet.models.hub import OWN_FILES, Repository, download, parse_hub_name
from compoundnet.models.model import ModelFolder


def hub_location(repository: Repository) -> Path:
    """Return the model folder of a repository in the cache, existing or not."""
    return cached_model_folder("hub", re.sub(r"[^\w.-]", "--", str(repository)))


def open_hub(given: str, notify: Notify) -> ModelFolder:
    """Return the model of a repository: from the cache if it was fetched before, otherwise fetched now.

    `notify` is called as in `fetch_hub`.
    """
    repository = parse_hub_name(given)
    folder = hub_location(repository)
    return read_folder(folder, str(repository)) if folder.is_dir() else fetch_hub(given, notify)


def fetch_hub(given: str, notify: Notify = ignore) -> ModelFolder:
    """Fetch a repository anew, and make a model folder of it in the cache.

    A repository that `push` wrote is taken as it is; one in timm's or transformers' form is recognised as
    `read_foreign` does, with its labels and preprocessing.

    Args:
        given: `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`.
        notify: Called with each choice that was made.

    Raises:
        CompoundNetError: There is no such repository, it may not be read, it holds no network known here, or the hub
            cannot be reached and huggingface_hub's cache lacks it.
    """
    from filelock import FileLock  # noqa: PLC0415  only a download needs it

    repository = parse_hub_name(given)
    folder = hub_location(repository)
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            remove_scratch(folder)
            snapshot = download(repository, notify)
            if (snapshot / "network.toml").is_file():
                _copy(snapshot, folder)
            else:
                _convert(snapshot, repository, folder, notify)
            return read_folder(folder, str(repository))


def _convert(snapshot: Path, repository: Repository, folder: Path, notify: Notify) -> None:
    from compoundnet.models.foreign import default_labels, read_foreign  # noqa: PLC0415  torch
    from compoundnet.models.preprocess import default_preprocess  # noqa: PLC0415  numpy, which names do without

    found = read_foreign(snapshot, name=str(repository))
    labels = found.labels or default_labels(found.network)
    preprocess = found.preprocess or default_preprocess(found.network)
    said = [*found.notes]
    if found.labels is None and found.network.num_classes:
        taken = "took ImageNet's class names" if labels else "the classes have no names"
        said.append(f"the repository names no classes: {taken}")
    if found.preprocess is None:
        said.append(
            f"the repository states no preprocessing: took {preprocess.describe()}, the usual one of its network"
        )
    for note in said:
        notify(note)
    notes = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in said)
    readme = f"""# {repository}

A model folder of compoundnet, made of {repository.page} (commit {snapshot.name}).

- Weights in the layout {found.layout}, recognised as {found.network.name}.
{notes}- Accuracy and licence: see that page. `compoundnet evaluate` measures accuracy.
"""
    shutil.rmtree(folder, ignore_errors=True)
    write_folder(
        folder, found.network, found.state, preprocess, labels=labels, postprocess=found.postprocess, readme=readme
    )


def _copy(snapshot: Path, folder: Path) -> None:
    """Copy the files of a model folder from a snapshot, where they are links; what else is there stays there."""
    read_folder(snapshot)  # checked before anything is replaced
    with whole_folder(folder) as whole:
        for file in sorted(snapshot.iterdir()):
            if file.is_file() and OWN_FILES.fullmatch(file.name):
                shutil.copyfile(file, whole / file.name)
