from .catalogue import Entry, entries, find
from .convert import convert
from .fetch import fetch, is_fetched
from .folder import Model, read_folder, write_folder
from .layouts import LAYOUTS, from_layout, layout, to_layout
from .loading import load, open_model
from .preprocess import Preprocess

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
