"""Features in files, written while they are computed, and the images whose features are nearest to those of another."""

from __future__ import annotations

import csv
import heapq
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, first_line, need
from compoundnet.base.files import whole_file
from compoundnet.base.image_values import Range
from compoundnet.base.table_files import csv_file, utf8
from compoundnet.models import Preprocess

FEATURE_FILES = (".parquet", ".csv")
# Rows that Parquet writes as a group.
_GROUP = 1000
_IDENTITY = b"compoundnet"


class Neighbour(NamedTuple):
    """An image near to a query: its path, and the cosine of the angle between their features, at most 1."""

    path: str
    similarity: float


@contextmanager
def feature_file(
    path: str | os.PathLike[str], width: int, identity: Mapping[str, str]
) -> Iterator[Callable[[str, NDArray[np.float32]], object]]:
    """Write a file of features; the block calls the yielded function with each image's path and features.

    Parquet: the columns `file` and `features`, a list of fixed length, float32; the schema's metadata hold `identity`.
    CSV: the columns `file`, `feature_0`, `feature_1` and so on. The file appears when the block ends, or not at all.

    Args:
        path: A file that ends in .parquet or .csv.
        width: The number of features.
        identity: What the features depend on, `Embedder.identity`.

    Raises:
        CompoundNetError: The suffix is another, the file cannot be written, or pyarrow is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FEATURE_FILES:
        raise CompoundNetError(f"{path}: a file of features ends in {' or '.join(FEATURE_FILES)}")
    if suffix == ".csv":
        with csv_file(path, [("file", PurePath), *((f"feature_{place}", float) for place in range(width))]) as write:
            yield lambda name, features: write([name, *features])
        return
    need("pyarrow", "writing Parquet files")
    import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415  optional
    from pyarrow import parquet  # noqa: PLC0415

    schema = _schema(width).with_metadata({_IDENTITY: json.dumps(dict(identity)).encode()})
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    with whole_file(path) as scratch, parquet.ParquetWriter(scratch, schema) as writer:

        def flush() -> None:
            if names:
                values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.concatenate(rows)), width)
                writer.write_table(pyarrow.Table.from_arrays([pyarrow.array(names), values], schema=schema))
            names.clear()
            rows.clear()

        def write_row(name: str, features: NDArray[np.float32]) -> None:
            names.append(utf8(name))
            rows.append(features)
            if len(names) == _GROUP:
                flush()

        yield write_row
        flush()


def _schema(width: int) -> Any:
    """The columns of a Parquet file of features."""
    import pyarrow  # noqa: PLC0415  optional

    return pyarrow.schema([("file", pyarrow.string()), ("features", pyarrow.list_(pyarrow.float32(), width))])


def read_features(
    path: str | os.PathLike[str], width: int, identity: Mapping[str, str]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Read a file that `feature_file` wrote.

    Args:
        path: The file.
        width: The number of features that is expected.
        identity: What the features must depend on; a CSV file does not record it.

    Yields:
        The path and features of each image.

    Raises:
        CompoundNetError: The file is not one of features, or they are of another model or preprocessing.
    """
    file = _present(Path(path))
    return _read_csv(file, width) if file.suffix.lower() == ".csv" else _read_parquet(file, width, identity)


def recorded_range(path: str | os.PathLike[str]) -> Range | None:
    """Return the range of values with which the images of a file of features were read.

    Returns:
        The range; None if they were read without one, and of a CSV file, which does not record it.

    Raises:
        CompoundNetError: The file is not one of features.
    """
    file = Path(path)
    if file.suffix.lower() == ".csv":
        return None
    _, written = _opened_parquet(_present(file))
    return Preprocess.loads(written.get("preprocess", ""), str(file)).range


def _present(file: Path) -> Path:
    if not file.is_file():
        raise CompoundNetError(f"there is no file {file}")
    return file


def _read_csv(file: Path, width: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if not _ends_a_line(file):  # the last number may be cut off in the middle
        raise CompoundNetError(f"{file} ends in the middle of a line: it is truncated. Embed the images again")
    with file.open(encoding="utf-8", newline="") as opened:
        rows = csv.reader(opened)
        try:
            found = len(next(rows, [])) - 1
            if found != width:
                raise CompoundNetError(
                    f"{file} does not hold the {width} features an image that this model gives: embed the images again"
                )
            for row in rows:
                if len(row) != width + 1:
                    raise CompoundNetError(
                        f"{file}, line {rows.line_num}: has {max(len(row) - 1, 0)} features, and {width} are expected."
                        " The file is damaged: embed the images again"
                    )
                yield row[0], np.array(row[1:], np.float32)
        except (ValueError, csv.Error) as error:
            if isinstance(error, CompoundNetError):
                raise
            raise CompoundNetError(
                f"{file}, line {rows.line_num}: is not what `compoundnet embed` writes: {first_line(error)}"
            ) from error


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        return opened.read() in (b"\n", b"")


def _read_parquet(file: Path, width: int, identity: Mapping[str, str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    opened, written = _opened_parquet(file)
    import pyarrow  # noqa: PLC0415  optional

    for part, words in (("weights", "weights"), ("preprocess", "preprocessing")):
        if written.get(part) != identity[part]:
            raise CompoundNetError(f"{file} holds features of other {words} than this model's: embed the images again")
    if not opened.schema_arrow.equals(_schema(width)):
        raise CompoundNetError(f"{file} does not hold the {width} features an image that this model gives")
    try:
        for batch in opened.iter_batches(_GROUP):
            table = batch.column("features").flatten().to_numpy().reshape(-1, width)
            yield from zip(batch.column("file").to_pylist(), table, strict=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise CompoundNetError(f"{file} is damaged: {first_line(error)}. Embed the images again") from error


def _opened_parquet(file: Path) -> tuple[Any, dict[str, str]]:
    """The opened file, and what its features depend on."""
    need("pyarrow", "reading Parquet files")
    import pyarrow  # noqa: PLC0415  optional
    from pyarrow import parquet  # noqa: PLC0415

    try:
        opened = parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise CompoundNetError(f"{file} is not a Parquet file, or it is damaged") from error
    try:
        written = msgspec.json.decode((opened.schema_arrow.metadata or {}).get(_IDENTITY, b""), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise CompoundNetError(f"{file} is not a file that `compoundnet embed` wrote") from error
    return opened, written


class Nearest:
    """The images nearest to some queries, among images that are added one at a time.

    Args:
        queries: The features of each query, by its path.
        count: The number of images to keep for each query.
    """

    def __init__(self, queries: Mapping[str, NDArray[np.float32]], count: int) -> None:
        self._paths = tuple(queries)
        self._queries = np.stack([_unit(row) for row in queries.values()])
        self._count = count
        self._found: list[list[tuple[float, int, str]]] = [[] for _ in queries]
        self._added = 0

    def add(self, path: str, features: NDArray[np.float32]) -> None:
        """Add an image. A query is not its own neighbour."""
        self._added += 1
        for query, found, similarity in zip(self._paths, self._found, self._queries @ _unit(features), strict=True):
            if path != query:
                heapq.heappush(found, (float(similarity), -self._added, path))
                if len(found) > self._count:
                    heapq.heappop(found)

    def neighbours(self) -> dict[str, tuple[Neighbour, ...]]:
        """Return the neighbours of each query, nearest first."""
        return {
            path: tuple(Neighbour(name, similarity) for similarity, _, name in sorted(found, reverse=True))
            for path, found in zip(self._paths, self._found, strict=True)
        }


def find_neighbours(
    queries: Mapping[str, NDArray[np.float32]], images: Iterable[tuple[str, NDArray[np.float32]]], count: int = 5
) -> dict[str, tuple[Neighbour, ...]]:
    """Return the `count` images nearest to each query, nearest first, by the cosine of their features.

    Args:
        queries: The features of each query, by its path.
        images: The path and features of each image, such as those of `read_features`.
        count: The number of images for each query.
    """
    nearest = Nearest(queries, count)
    for path, row in images:
        nearest.add(path, row)
    return nearest.neighbours()


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return features / max(float(np.linalg.norm(features)), float(np.finfo(np.float32).tiny))
