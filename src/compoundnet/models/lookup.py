"""Lookup of a model by name, in a folder, in an exported file or on the hub, without torch."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from compoundnet.base import CompoundNetError
from compoundnet.models import catalogue
from compoundnet.models.downloads import fetch, is_fetched, location
from compoundnet.models.exported import is_exported, open_exported
from compoundnet.models.folder import read_folder
from compoundnet.models.hub import is_hub_name
from compoundnet.models.hub_models import open_hub
from compoundnet.models.model import Model, ModelFolder

_LOG = logging.getLogger(__name__)


def open_model(model: str | os.PathLike[str] | Model) -> Model:
    """Open a model: a name of `compoundnet models list`, a model folder, an exported file, or `hf-hub:OWNER/NAME`.

    A named model, or one of the hub, is fetched if the cache lacks it; `./name` stands for a folder with such a name.
    The choices of a fetch are logged. The checksum of the weights and their shapes are checked. Does not import torch
    once a model is fetched.

    Args:
        model: The name, the folder, the file, or a model that is already open and returned as it is.

    Returns:
        A `ModelFolder`, or an `ExportedModel` of an exported file.

    Raises:
        CompoundNetError: There is no such model, or it is damaged.
    """
    if isinstance(model, Model):
        return model
    if is_hub_name(model):
        return open_hub(str(model), _LOG.info)
    if is_exported(model) and not Path(model).is_dir():
        return open_exported(model)
    return _open_folder(model)


def open_folder(model: str | os.PathLike[str] | Model) -> ModelFolder:
    """Open a model that has weights for torch, as `open_model` does.

    Raises:
        CompoundNetError: There is no such model, it is damaged, or it is an exported file.
    """
    found = open_model(model)
    if not isinstance(found, ModelFolder):
        file = getattr(found, "file", found.name)
        raise CompoundNetError(
            f"{file} is an exported file, which holds no weights for torch; give what it was made of: a name of"
            " `compoundnet models list`, or a model folder"
        )
    return found


def _open_folder(model: str | os.PathLike[str]) -> ModelFolder:
    if not isinstance(model, str) or _is_folder(model):
        return read_folder(model)
    try:
        entry = catalogue.find(model)
    except CompoundNetError as error:
        raise CompoundNetError(f"{error}, and there is no folder of that name") from error
    if not is_fetched(entry):
        return fetch(entry, notify=_LOG.info)
    try:
        return read_folder(location(entry), entry.name)
    except CompoundNetError as error:
        raise CompoundNetError(f"{error}; `compoundnet models fetch {entry.name}` makes it anew") from error


def _is_folder(given: str) -> bool:
    """Whether a folder is meant: names of the catalogue take precedence, unless there is a path separator."""
    return "/" in given or os.sep in given or (catalogue.entry(given) is None and Path(given).exists())
