from .explainer import METHODS, ExplainableModel, Explainer, find_explainable
from .map_files import GRID_FILE, MAPS_FILE, ImageMaps, MapFolder, write_grid, write_maps
from .maps import BOX_SHARE, ClassMap, Explanation
from .overlays import overlay
from .pages import Page
from .sheets import ROWS, card, grid, sheet

__all__ = [
    "BOX_SHARE",
    "GRID_FILE",
    "MAPS_FILE",
    "METHODS",
    "ROWS",
    "ClassMap",
    "ExplainableModel",
    "Explainer",
    "Explanation",
    "ImageMaps",
    "MapFolder",
    "Page",
    "card",
    "find_explainable",
    "grid",
    "overlay",
    "sheet",
    "write_grid",
    "write_maps",
]
