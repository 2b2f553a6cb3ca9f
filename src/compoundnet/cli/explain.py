"""`explain`: which parts of an image a model bases a class on."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compoundnet import data
from compoundnet import explain as maps
from compoundnet.cli.options import (
    AllowTruncated,
    Json,
    Threads,
    ValueRange,
    complete_image_or_model,
    output_option,
    top_option,
)
from compoundnet.cli.output import note, print_json, show
from compoundnet.cli.progress import Display

if TYPE_CHECKING:
    from compoundnet.explain import MapFolder


def explain(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL IMAGE_OR_FOLDER",
            help="A name from `compoundnet models list`, a model folder, or an ONNX file of `export --with-cam`; then"
            " image files, and folders that are searched for them. With --grid: MODEL... -- IMAGE_OR_FOLDER...",
            autocompletion=complete_image_or_model,
        ),
    ],
    top: Annotated[int | None, top_option(3)] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Map this class instead, by label or number; repeatable."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cam (class activation maps) or gradcam.",
            show_default="cam, or gradcam for networks without a linear head",
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Draw one grid, a row per image and a column per model, as in Figure 7.")
    ] = False,
    output: Annotated[Path, output_option("FOLDER", "Write the images and numbers to this folder.")] = Path(
        "explained"
    ),
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="onnxruntime or torch, for cam.", show_default="onnxruntime"),
    ] = None,
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    json: Json = False,
) -> None:
    """Draw which parts of an image a model bases a class on, and print each map's peak and box in pixels.

    Writes FOLDER/NAME.cam.jpg for each image (its first class), sheet.jpg (all
    classes side by side) and maps.json; with --grid, grid.jpg (all models on the
    same class of each image).
    """
    from PIL import Image  # noqa: PLC0415  `--help` does not wait for it

    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  as above

    if top is not None and (classes or grid):
        raise typer.BadParameter("--top is for one model, without --class")
    models, paths = _split(given, grid)
    # Large images are read without PIL's warning; PIL rejects those of twice that size itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    notes: list[str] = []
    images = data.find_images(paths, notify=notes.append)
    explainers = [
        maps.Explainer(
            model, method=method, backend=backend, threads=threads,
            allow_truncated=allow_truncated, value_range=parse_range(value_range),
        )
        for model in models
    ]  # fmt: skip
    assumed = dict.fromkeys([*(one.note for one in explainers), *(one.find_range(images) for one in explainers)])
    notes += [text for text in assumed if text is not None]
    for text in notes:
        note(text)
    if grid:
        damaged: list[str] = []
        described = maps.write_grid(explainers, images, output, classes=classes, damaged=damaged.append)
        for text in damaged:
            note(text)
        if json:
            print_json(
                {"grid": str(output / maps.GRID_FILE), "description": described, "damaged": damaged, "notes": notes}
            )
        else:
            show(described)
        note(f"wrote {output / maps.GRID_FILE}")
        _note_damaged(len(damaged), len(images))
        return
    with Display("explaining", len(images)) as display:
        written = maps.write_maps(
            explainers[0], images, output, top=top, classes=classes, notes=notes, progress=display.advance,
            notify=lambda reason: display.notify(f"error: {reason}"), damaged=display.notify,
        )  # fmt: skip
    if json:
        print_json(written)
    else:
        _print_maps(written)
    note(f"wrote {', '.join(str(output / name) for name in [*written.sheets, maps.MAPS_FILE])}")
    _note_damaged(written.damaged, len(images))
    if written.failures:
        note(f"{written.failures} of {len(images)} images could not be read")
        raise typer.Exit(1)


def _note_damaged(damaged: int, count: int) -> None:
    if damaged:
        note(f"{damaged} of {count} images are truncated or damaged, and used as far as they can be decoded")


def _split(given: list[str], grid: bool) -> tuple[list[str], list[str]]:
    """Return (models, images)."""
    if not grid:
        models, paths = given[:1], given[1:]
    elif "--" not in sys.argv:
        raise typer.BadParameter("with --grid `--` stands between the models and the images: MODEL... -- IMAGE...")
    else:  # the parser has dropped the separator
        count = len(sys.argv) - sys.argv.index("--") - 1
        models, paths = given[: len(given) - count], given[len(given) - count :]
    if not models or not paths:
        raise typer.BadParameter("give a model and at least one image: MODEL IMAGE...")
    return models, paths


def _print_maps(written: MapFolder) -> None:
    for image in written.images:
        if image.maps is not None:
            show("\n".join([image.path, *map(_line, image.maps)]))


def _line(shown: dict[str, Any]) -> str:
    place = "no evidence for it" if shown["box"] is None else "peak at {}, {}".format(*shown["peak"])
    box = "" if shown["box"] is None else ", box {}, {} to {}, {}".format(*shown["box"])
    threshold = shown.get("threshold", 0.0)
    below = "" if shown["probability"] >= threshold else f" (below its threshold, {threshold:.2%})"
    return f"  {shown['probability']:7.2%}  {shown['index']:4d}  {shown['label']}{below}: {place}{box}"
