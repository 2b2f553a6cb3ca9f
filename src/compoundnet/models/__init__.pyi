from .catalogue import PretrainedWeights, entries, find
from .conversion import convert, convert_to
from .downloads import fetch, is_fetched
from .exported import open_exported
from .folder import read_folder, write_folder
from .layouts import LAYOUTS, from_layout, layout, to_layout
from .lookup import open_folder, open_model
from .model import ExportedModel, Model, ModelFolder
from .postprocess import Postprocess
from .preprocess import Preprocess
from .torch_module import load

__all__ = [
    "LAYOUTS",
    "ExportedModel",
    "Model",
    "ModelFolder",
    "Postprocess",
    "Preprocess",
    "PretrainedWeights",
    "convert",
    "convert_to",
    "entries",
    "fetch",
    "find",
    "from_layout",
    "is_fetched",
    "layout",
    "load",
    "open_exported",
    "open_folder",
    "open_model",
    "read_folder",
    "to_layout",
    "write_folder",
]
