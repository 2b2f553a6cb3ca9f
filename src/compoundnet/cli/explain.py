"""`explain`: what a model looks at."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet.cli.networks import Json
from compoundnet.cli.output import note, print_json, show

if TYPE_CHECKING:
    from compoundnet.explain import Explainer


def explain(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL IMAGE...", help="A model, then pictures and folders of them; with --grid several models."
        ),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A map for each of the N most probable classes; 3.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="A map of this class instead; repeatable.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="One picture, rows of photos and columns of models: the paper's Figure 7.")
    ] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the pictures go.")] = Path(
        "explained"
    ),
    json: Json = False,
) -> None:
    """Class activation maps (Zhou et al. 2016) over the original pictures, with each map's peak and box."""
    from compoundnet import data
    from compoundnet.arch import CompoundNetError
    from compoundnet.explain import Explainer

    if top is not None and classes:
        raise typer.BadParameter("give either --top or --class")
    models, paths = _split(given, grid)
    if not paths:
        raise typer.BadParameter("give at least one picture after the model", param_hint="IMAGE")
    if not models:
        raise typer.BadParameter("give at least one model before the pictures", param_hint="MODEL")
    pictures = data.find_images(paths)
    explainers = [Explainer(model) for model in models]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompoundNetError(f"{output}: cannot be written: {error.strerror or error}") from error
    if grid:
        _write_grid(explainers, pictures, classes, output, json)
    else:
        _write_each(explainers[0], pictures, top, classes, output, json)


def _split(given: list[str], grid: bool) -> tuple[list[str], list[str]]:
    """(models, pictures). With a grid, whatever is a file or folder of pictures is one; model folders are models."""
    if not grid:
        return given[:1], given[1:]
    first = next((at for at, text in enumerate(given) if _is_pictures(Path(text))), len(given))
    return given[:first], given[first:]


def _is_pictures(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and not (path / "network.toml").exists())


def _write_each(
    explainer: Explainer, pictures: list[Path], top: int | None, classes: list[str] | None, output: Path, json: bool
) -> None:
    from compoundnet import data
    from compoundnet.arch import write_whole
    from compoundnet.explain import overlay, sheet
    from compoundnet.explain.drawing import encode_png

    facts, failures = [], 0
    for number, path in enumerate(pictures, 1):
        try:
            found = explainer(path, top=top, classes=classes)
        except data.UnreadableImageError as error:
            failures += 1
            note(f"error: {error}")
            continue
        stem = f"{number:03d}-{path.stem}" if len(pictures) > 1 else path.stem
        for shown in found.maps:
            write_whole(output / f"{stem}-{shown.index}.png", encode_png(overlay(found.picture, shown)))
        write_whole(output / f"{stem}.png", sheet(found))
        facts.append({"path": str(path), "sheet": f"{stem}.png", "maps": [shown.facts() for shown in found.maps]})
        if not json:
            show(str(path))
            for shown in found.maps:
                show(f"  {shown.probability:7.2%}  {shown.label}: peak at {shown.peak}, box {shown.box}")
    write_whole(output / "maps.json", jsonlib.dumps(facts, indent=2).encode())
    if json:
        print_json(facts)
    else:
        show(f"wrote {output}")
    if failures:
        note(f"{failures} of {len(pictures)} pictures could not be read")
        raise typer.Exit(1)


def _write_grid(
    explainers: list[Explainer], pictures: list[Path], classes: list[str] | None, output: Path, json: bool
) -> None:
    from compoundnet.arch import write_whole
    from compoundnet.explain import grid

    found = [[explainer(path, top=1, classes=classes) for explainer in explainers] for path in pictures]
    png, description = grid(found, [explainer.model.name for explainer in explainers])
    write_whole(output / "grid.png", png)
    if json:
        print_json({"grid": str(output / "grid.png"), "description": description})
    else:
        show(f"wrote {output / 'grid.png'}")
