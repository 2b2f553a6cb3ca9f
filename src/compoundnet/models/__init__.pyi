from .catalogue import PretrainedWeights, entries, find, select
from .conversion import convert, convert_to
from .downloads import fetch, is_fetched
from .exported import open_exported
from .folder import read_folder, write_folder
from .foreign import ForeignModel, read_foreign
from .hub_models import fetch_hub
from .hub_repository import push, write_repository
from .inheritance import Inherited, estimate_norms, inherit, scale_model
from .layouts import LAYOUTS, from_layout, layout, to_layout
from .lookup import open_folder, open_model
from .model import ExportedModel, Model, ModelFolder
from .postprocess import Postprocess
from .preprocess import Preprocess
from .torch_module import load

__all__ = [
    "LAYOUTS",
    "ExportedModel",
    "ForeignModel",
    "Inherited",
    "Model",
    "ModelFolder",
    "Postprocess",
    "Preprocess",
    "PretrainedWeights",
    "convert",
    "convert_to",
    "entries",
    "estimate_norms",
    "fetch",
    "fetch_hub",
    "find",
    "from_layout",
    "inherit",
    "is_fetched",
    "layout",
    "load",
    "open_exported",
    "open_folder",
    "open_model",
    "push",
    "read_folder",
    "read_foreign",
    "scale_model",
    "select",
    "to_layout",
    "write_folder",
    "write_repository",
]
