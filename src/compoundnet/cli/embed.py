"""`embed`: the features of images, and the images nearest to another."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import base, data, runtime
from compoundnet.cli.options import (
    AllowTruncated,
    Device,
    Images,
    Json,
    Threads,
    ValueRange,
    check_suffix,
    complete_model,
    output_option,
)
from compoundnet.cli.output import note, print_json, show
from compoundnet.cli.progress import track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def embed(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name from `compoundnet models list`, a model folder, or hf-hub:OWNER/NAME.",
            autocompletion=complete_model,
        ),
    ],
    images: Images,
    output: Annotated[
        Path | None, output_option("FILE", "Write the features to this file, which ends in .parquet or .csv.")
    ] = None,
    queries: Annotated[
        list[Path] | None,
        typer.Option("--query", metavar="IMAGE", help="Print the images nearest to this one; repeatable."),
    ] = None,
    nearest: Annotated[int, typer.Option(min=1, metavar="N", help="Print the N nearest images of each query.")] = 5,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", metavar="NAME", help="onnxruntime, openvino, torch or compile.", show_default="onnxruntime"
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="NAME", help="float32, bfloat16 (AMX, AVX512-BF16 or a GPU) or float16 (a GPU)."
        ),
    ] = "float32",
    threads: Threads = None,
    device: Device = "cpu",
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    json: Json = False,
) -> None:
    """Compute the features of images: what the model's classifier reads. Images that are alike have similar features.

    Give -o, --query or both. With --query a file that `embed` wrote may stand for
    the images. Images that cannot be read are reported and left out.
    """
    from PIL import Image  # noqa: PLC0415  `--help` does not wait for it

    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  as above
    from compoundnet.runtime.feature_files import recorded_range  # noqa: PLC0415  as above

    if output is None and not queries:
        raise typer.BadParameter("give a file for the features, or a --query", param_hint="--output")
    check_suffix("--output", output, runtime.FEATURE_FILES)
    # Large images are read without PIL's warning; PIL rejects those of twice that size itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if output is not None:
        base.check_output_file(output)
    written = Path(images[0]) if len(images) == 1 and Path(images[0]).suffix.lower() in runtime.FEATURE_FILES else None
    if written is not None and (output is not None or not queries):
        raise typer.BadParameter(
            f"{written} is read as features that `embed` wrote, for a --query alone; with -o give images or folders",
            param_hint="--output",
        )
    notes: list[str] = []
    files = [] if written is not None else data.find_images(images, notify=notes.append)
    used_range = parse_range(value_range)
    if written is not None and used_range is None:
        used_range = recorded_range(written)
    embedder = runtime.Embedder(
        model, backend=backend, precision=precision, threads=threads, device=device,
        allow_truncated=allow_truncated, value_range=used_range,
    )  # fmt: skip
    identity = embedder.identity()  # of a file that was written: without the range that is found for the queries
    if (text := embedder.find_range(chain(files, queries or []))) is not None:
        notes.append(text)
        if written is not None and written.suffix.lower() == ".csv":
            notes.append(f"{written} does not say the range of its images; give --range theirs if they had one")
    for text in notes:
        note(text)
    asked = {str(query): embedder(query) for query in queries or []}
    found = runtime.Nearest(asked, nearest) if asked else None
    if written is not None:
        count, failures = _add_written(runtime.read_features(written, embedder.width, identity), found), 0
    else:
        count, failures = _compute(embedder, files, output, found, notes)
    neighbours = {} if found is None else found.neighbours()
    if json:
        print_json(
            {
                "model": embedder.model.name,
                "resolution": embedder.preprocess.size,
                "features": embedder.width,
                "images": count,
                "unreadable": failures,
                "output": None if output is None else str(output),
                "queries": [
                    {"path": path, "nearest": [one._asdict() for one in near]} for path, near in neighbours.items()
                ],
                "notes": notes,
            }
        )
    else:
        for path, near in neighbours.items():
            show("\n".join([path, *(f"  {one.similarity:7.4f}  {one.path}" for one in near)]))
    if output is not None:
        note(f"wrote {output}: {embedder.width:,} features of each of {count:,} images")
    if failures:
        note(f"{failures:,} of {count + failures:,} images could not be read")
        raise typer.Exit(1)


def _add_written(rows: Iterable[tuple[str, NDArray[np.float32]]], found: runtime.Nearest | None) -> int:
    assert found is not None
    count = 0
    for path, row in rows:
        found.add(path, row)
        count += 1
    return count


def _compute(
    embedder: runtime.Embedder,
    files: Sequence[Path],
    output: Path | None,
    found: runtime.Nearest | None,
    notes: list[str],
) -> tuple[int, int]:
    """Return the number of images, and of those that could not be read; these and damaged ones are named in `notes`."""
    count = failures = 0
    writing = (
        contextlib.nullcontext()
        if output is None
        else runtime.feature_file(output, embedder.width, embedder.identity())
    )
    with writing as write:
        for result in embedder.many(track(files, "embedding", len(files), printing=False)):
            if isinstance(result, runtime.Failure):
                notes.append(f"{result.path}: {result.reason}")
                note(f"error: {notes[-1]}")
                failures += 1
                continue
            if result.damage is not None:
                notes.append(f"{result.path}: {result.damage}; used as far as it can be decoded")
                note(notes[-1])
            _deliver(write, found, result.path, result.features)
            count += 1
        if not count:
            raise base.CompoundNetError("none of the images could be read")
    return count, failures


def _deliver(
    write: Callable[[str, NDArray[np.float32]], object] | None,
    found: runtime.Nearest | None,
    path: str,
    row: NDArray[np.float32],
) -> None:
    if write is not None:
        write(path, row)
    if found is not None:
        found.add(path, row)
