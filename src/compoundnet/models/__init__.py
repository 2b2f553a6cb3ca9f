"""Models that are ready to use: pretrained weights by name, model folders, other libraries' weights, safe reading.

Torch is imported where tensors are, so `open_model` on a model that is there does without.
"""

from compoundnet.models.catalogue import Entry, entries, find
from compoundnet.models.convert import convert
from compoundnet.models.fetch import fetch, is_fetched
from compoundnet.models.folder import Model, read_folder, write_folder
from compoundnet.models.layouts import LAYOUTS, from_layout, layout, to_layout
from compoundnet.models.loading import load, open_model
from compoundnet.models.preprocess import Preprocess

__all__ = [
    "LAYOUTS",
    "Entry",
    "Model",
    "Preprocess",
    "convert",
    "entries",
    "fetch",
    "find",
    "from_layout",
    "is_fetched",
    "layout",
    "load",
    "open_model",
    "read_folder",
    "to_layout",
    "write_folder",
]
