"""`explain`: what a model looks at."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from compoundnet import base
from compoundnet.cli.options import Json, Threads
from compoundnet.cli.output import note, print_json, show

if TYPE_CHECKING:
    from compoundnet.explain import Explainer, Explanation


def explain(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL IMAGE_OR_FOLDER...",
            help="A model (name of `compoundnet models list`, model folder, ONNX file of `export --with-cam`), then"
            " pictures and folders of them. With --grid: MODEL... -- IMAGE_OR_FOLDER...",
        ),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A map of each of the N most probable classes; 3.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="A map of this class instead, by label or number; repeatable."),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="cam (class activation maps, exact for these networks) or gradcam.")
    ] = "cam",
    grid: Annotated[
        bool, typer.Option("--grid", help="One picture, rows of photos and columns of models: the paper's Figure 7.")
    ] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the pictures go.")] = Path(
        "explained"
    ),
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of cam: onnxruntime unless given, or torch.")
    ] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Draw what speaks for a class onto pictures, and tell where: for each map its peak and its box in pixels.

    Writes FOLDER/NAME.cam.jpg for each picture (its first class), sheet.jpg with all classes side by side, and
    maps.json. With --grid it writes grid.jpg, where all models show the same class of a picture.
    """
    from PIL import Image

    from compoundnet import data
    from compoundnet.explain import Explainer

    if top is not None and (classes or grid):
        raise typer.BadParameter("--top is for one model, without --class")
    models, paths = _split(given, grid)
    # A picture that is large and no more than that is read; PIL refuses those of twice the size by itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    pictures = data.find_images(paths)
    explainers = [Explainer(model, method=method, backend=backend, threads=threads) for model in models]
    for explainer in explainers:
        for name in classes or ():
            explainer.index(name)
    base.make_folder(output)
    if grid:
        _write_grid(explainers, pictures, classes, output, json)
    else:
        _write_each(explainers[0], pictures, top, classes, output, json)


def _split(given: list[str], grid: bool) -> tuple[list[str], list[str]]:
    """(models, pictures)."""
    if not grid:
        models, paths = given[:1], given[1:]
    elif "--" not in sys.argv:
        raise typer.BadParameter("with --grid `--` stands between the models and the pictures: MODEL... -- IMAGE...")
    else:  # the parser has dropped the separator
        count = len(sys.argv) - sys.argv.index("--") - 1
        models, paths = given[: len(given) - count], given[len(given) - count :]
    if not models or not paths:
        raise typer.BadParameter("give a model and at least one picture: MODEL IMAGE...")
    return models, paths


def _write_each(
    explainer: Explainer, pictures: list[Path], top: int | None, classes: list[str] | None, output: Path, json: bool
) -> None:
    from compoundnet.explain import BOX_SHARE, ROWS, sheet

    names = _names(pictures, explainer.method)
    told: list[dict[str, Any]] = []
    sheets: list[str] = []

    def explained() -> Iterator[Explanation]:
        """The pictures that can be read, one by one; each is written and told on the way."""
        for path in pictures[len(told) : len(told) + ROWS]:
            yield from _explained(explainer, path, top, classes, output / names[path], told, json)

    while len(told) < len(pictures):
        readable = explained()
        first = next(readable, None)
        if first is None:
            continue
        name = "sheet.jpg" if len(pictures) <= ROWS else f"sheet-{len(sheets) + 1}.jpg"
        base.write_whole(output / name, sheet(_chain(first, readable)).jpeg())
        sheets.append(name)
    document = {
        "model": explainer.name,
        "method": explainer.method,
        "box_share": BOX_SHARE,
        "sheets": sheets,
        "pictures": told,
    }
    base.write_whole(output / "maps.json", msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if json:
        print_json(document)
    failures = sum("error" in one for one in told)
    note(f"wrote {', '.join(str(output / name) for name in [*sheets, 'maps.json'])}")
    if failures:
        note(f"{failures} of {len(pictures)} pictures could not be read")
        raise typer.Exit(1)


def _chain(first: Explanation, rest: Iterator[Explanation]) -> Iterator[Explanation]:
    yield first
    yield from rest


def _explained(
    explainer: Explainer,
    path: Path,
    top: int | None,
    classes: list[str] | None,
    target: Path,
    told: list[dict[str, Any]],
    json: bool,
) -> Iterator[Explanation]:
    """The picture's explanation, once its overlay is written and it is told; none where it cannot be read."""
    from compoundnet import data
    from compoundnet.explain import card

    try:
        found = explainer(path, top=top, classes=classes)
    except data.UnreadableImageError as error:
        note(f"error: {error}")
        told.append({"path": str(path), "error": error.reason})
        return
    base.write_whole(target, card(found).jpeg())
    told.append(
        {
            "path": str(path),
            "overlay": target.name,
            "width": found.picture.width,
            "height": found.picture.height,
            "seen": found.maps[0].seen,
            "maps": [shown.facts() for shown in found.maps],
        }
    )
    if not json:
        show("\n".join([str(path), *map(_line, told[-1]["maps"])]))
    yield found


def _line(shown: dict[str, Any]) -> str:
    place = "nothing speaks for it" if shown["box"] is None else "peak at {}, {}".format(*shown["peak"])
    box = "" if shown["box"] is None else ", box {}, {} to {}, {}".format(*shown["box"])
    return f"  {shown['probability']:7.2%}  {shown['index']:4d}  {shown['label']}: {place}{box}"


def _names(pictures: list[Path], method: str) -> dict[Path, str]:
    """The file of each picture's overlay: its own name, numbered where another has it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in pictures:
        name, number = f"{path.stem}.{method}.jpg", 1
        while name.casefold() in taken:  # capitals do not tell files apart everywhere
            number += 1
            name = f"{path.stem}-{number}.{method}.jpg"
        taken.add(name.casefold())
        names[path] = name
    return names


def _write_grid(
    explainers: list[Explainer], pictures: list[Path], classes: list[str] | None, output: Path, json: bool
) -> None:
    from compoundnet.explain import grid

    drawn = grid(explainers, pictures, classes=classes)
    target = output / "grid.jpg"
    base.write_whole(target, drawn.jpeg())
    if json:
        print_json({"grid": str(target), "description": drawn.description})
    else:
        show(drawn.description)
    note(f"wrote {target}")
