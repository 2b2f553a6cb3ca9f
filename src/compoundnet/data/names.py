"""What the names of files and folders mean: the order of classes, splits, and what tools and this program make."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import NamedTuple

from compoundnet.base import shortened

# The suffixes of files that can be lists of images.
LIST_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".lst", ".jsonl", ".parquet")

# The words for each split, in lower case. "trainval" is the training images of those who tune nothing.
_SPLIT_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
SPLITS = tuple(_SPLIT_WORDS)
# Words beside them that say nothing: seg_train, test_set, "Training data".
_NEUTRAL = frozenset((
    "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures", "samples", "folder",
    "seg",
))  # fmt: skip
_SPLIT_OF = {
    word + ending: split
    for split, words in _SPLIT_WORDS.items()
    for word in words
    for ending in ("", "set", "data", "images", "imgs", "split")
}

# Folders and files that systems and tools make beside images, in lower case; so is every hidden one.
_TOOLS_FOLDERS = frozenset(
    name.lower()
    for name in (
        # macOS and Windows
        "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "TheFindByContentFolder",
        "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "$WINDOWS.~BT", "$WINDOWS.~WS",
        # Linux, Android and network drives
        "lost+found", "LOST.DIR", "@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@sharebin", "@__thumb",
        "#recycle", "#snapshot", "~snapshot", "_gsdata_",
        # tools
        "__pycache__", "node_modules", "CVS", "lightning_logs", "wandb", "mlruns", "tb_logs",
    )
)  # fmt: skip
_TOOLS_FOLDER = re.compile(r"found\.\d{3}|.*\.egg-info")  # of chkdsk, of pip
_TOOLS_FILES = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"))
# A hidden folder that no tool is known to make may be meant: it is named if it holds images.
_HIDDEN_BY_TOOLS = frozenset(
    name.lower()
    for name in (
        ".git", ".github", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", ".cache", ".idea", ".vscode", ".venv",
        ".Trash", ".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems", ".DocumentRevisions-V100",
        ".AppleDouble", ".thumbnails", ".thumbs", ".@__thumb", ".snapshot", ".snapshots", ".dropbox.cache", ".stfolder",
        ".stversions", ".picasaoriginals", ".comments", ".nomedia", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    )
)  # fmt: skip
_HIDDEN_BY_TOOL = re.compile(r"\._.*|\.trash-\d+|\.nfs.*|\..*\.part|\.\w+_cache", re.IGNORECASE)

# What this program writes, by files that only it names so: (what it is, the files that are all in it).
_WRITTEN = (
    ("a model", ("network.toml", "weights.safetensors")),
    ("a search", ("search.toml",)),
    ("shards", ("shards.toml",)),
    ("a training run", ("checkpoints", "lock")),
    ("a fit", ("fit.json", "lock")),
)
# Folders that are named after a model folder, and hold a lock before there is anything else.
_LOCKED = {".run": "a training run", ".fit": "a fit"}
# What `predict` writes for shards: this file, and tables.
_PREDICTIONS, _PREDICTIONS_PART = "predictions.json", ".parquet"
# What `reproduce` writes: a table as three files, a figure as two.
_REPRODUCED = re.compile(r"table\d\.(json|md|csv)|figure\d\.(svg|png)")
# Of class activation maps; `explain --grid` writes the grid alone.
MAPS_FILE, _GRID = "maps.json", "grid.jpg"
_MAP_FILE = re.compile(r".*\.(cam|gradcam)\.jpg|sheet(-\d+)?\.jpg|grid\.jpg|maps\.json")


class SplitName(NamedTuple):
    """A name that denotes a split.

    Attributes:
        split: train, val or test.
        rest: Its other words, which the folders of one data set share (`pets_train` and `pets_test`).
    """

    split: str
    rest: tuple[str, ...]


def split_name(name: str) -> SplitName | None:
    """Read a folder or file name, or a value of a list, as a split: in any case and the usual spellings.

    `Test`, `VALID`, `seg_train`, `test-set` and `TrainingImages` are splits; `bullet train` has the rest `bullet`.
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFKC", name))
    words = re.findall(r"[^\W\d_]+|\d+", spaced.casefold())
    splits = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    if splits not in (["train"], ["val"], ["test"], ["train", "val"]):
        return None
    return SplitName(splits[0], tuple(word for word in words if word not in _SPLIT_OF and word not in _NEUTRAL))


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in the order of classes: as text by code points, with numbers inside them by value (2 before 10).

    Where no name holds a number, or all of them have leading zeros, it is the order of torchvision and timm.
    """
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """The sort key: text and numbers alternate, and numbers compare by length and digits, however long they are."""
    parts = re.split(r"([0-9]+)", name)
    numbered = [
        (len(part.lstrip("0")), part.lstrip("0")) if place % 2 else (0, part) for place, part in enumerate(parts)
    ]
    return numbered, name


def class_name(name: str) -> str:
    """Return the class that a folder or a cell of a list names: its accents in one form (NFC), whatever system wrote
    it."""
    return unicodedata.normalize("NFC", name.strip("\ufeff \t\r\n\xa0"))


def is_made_by_tools(name: str, *, folder: bool) -> bool:
    """Whether a file or folder of this name belongs to a system or tool, and is never meant."""
    lower = name.lower()
    if name.startswith("."):
        return lower in _HIDDEN_BY_TOOLS or _HIDDEN_BY_TOOL.fullmatch(lower) is not None
    if folder:
        return lower in _TOOLS_FOLDERS or _TOOLS_FOLDER.fullmatch(lower) is not None
    return lower in _TOOLS_FILES or lower.endswith(("@synoeastream", "@synoresource"))


def is_map_file(name: str) -> bool:
    """Whether `explain` wrote a file, if MAPS_FILE is beside it: it may write beside the images."""
    return _MAP_FILE.fullmatch(name) is not None


def written_by_compoundnet(folder: str, entries: Collection[str]) -> str | None:
    """Return what a folder is that this program wrote, by its name and those in it; None if it may be the user's."""
    found = next((what for what, files in _WRITTEN if all(file in entries for file in files)), None)
    if found is None and "lock" in entries:
        found = next((what for ending, what in _LOCKED.items() if folder.endswith(ending)), None)
    if found is not None or not entries:
        return found
    if _PREDICTIONS in entries and all(name == _PREDICTIONS or name.endswith(_PREDICTIONS_PART) for name in entries):
        return "predictions"
    pictures = {name.removesuffix(".png") for name in entries if name.endswith(".png")}
    if all(map(_REPRODUCED.fullmatch, entries)) and all(f"{name}.svg" in entries for name in pictures):
        return "reproduced tables and figures"
    maps = all(map(_MAP_FILE.fullmatch, entries)) and (MAPS_FILE in entries or set(entries) == {_GRID})
    return "class activation maps" if maps else None


def some(names: Collection[str], most: int = 5) -> str:
    """Return the first names, quoted, and how many more there are."""
    return shortened([repr(name) for name in names], most)
