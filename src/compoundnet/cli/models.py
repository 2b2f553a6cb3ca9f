"""`models list`, `models fetch` and `models convert`: pretrained weights, others' as model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import arch, models, zoo
from compoundnet.base import format_count
from compoundnet.cli.options import Json
from compoundnet.cli.output import note, print_json, show, table

app = typer.Typer(no_args_is_help=True, help="Pretrained models: list and fetch them, convert others' weights.")


@app.command(name="list")
def list_models(json: Json = False) -> None:
    """The pretrained models that are known by name."""
    rows = [(entry, arch.cost(entry.build_network()), models.is_fetched(entry)) for entry in models.entries()]
    if json:
        print_json(
            [
                {
                    "name": entry.name,
                    "aliases": entry.aliases,
                    "network": entry.network,
                    "training": entry.training,
                    "resolution": entry.preprocess.size,
                    "params": cost.params,
                    "macs": cost.macs,
                    "top1": entry.top1,
                    "top5": entry.top5,
                    "accuracy_from": entry.accuracy_from,
                    "licence": entry.licence,
                    "source": entry.source,
                    "sha256": entry.sha256,
                    "preprocess": entry.preprocess,
                    "fetched": fetched,
                }
                for entry, cost, fetched in rows
            ]
        )
        return
    printed = table("model", "training", ">input", ">parameters", ">top-1", "licence", "from", "fetched")
    for entry, cost, fetched in rows:
        printed.add_row(
            entry.name,
            entry.training,
            f"{entry.preprocess.size} px",
            format_count(cost.params),
            f"{entry.top1:.1f} %",
            entry.licence,
            str(entry.source),
            "yes" if fetched else "",
        )
    show(printed, "top-1 is the published accuracy on ImageNet's validation pictures.")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `compoundnet models list`.")],
    file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A copy of its file, where the hub cannot be reached.")
    ] = None,
) -> None:
    """Get a pretrained model now; whatever uses it by name gets it by itself the first time."""
    model = models.fetch(models.find(name), file)
    note(f"{model.name} is in {model.folder}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Weights file, or a TensorFlow checkpoint's prefix.")],
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Whose it is: timm, timm-native, torchvision, lukemelas, transformers, keras, tensorflow.",
        ),
    ],
    network: Annotated[
        str, typer.Option(metavar="NETWORK", help="The network it is of: a name of `compoundnet list`, or a TOML file.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The model folder to write.")],
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names, one a line.")] = None,
    preprocess: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="What pictures go through; the file's or the authors' unless given."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Of a TensorFlow checkpoint, the weights without moving average.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older model folder.")] = False,
) -> None:
    """Make a model folder of another library's weights. Classes and input channels are the file's."""
    model = models.convert(
        source,
        output,
        layout=layout,
        network=zoo.find_scalable(network),
        labels=labels,
        preprocess=None if preprocess is None else models.Preprocess.load(preprocess),
        raw=raw,
        replace=force,
    )
    classes = f"{model.network.num_classes} classes" if model.network.num_classes else "without a classifier"
    note(f"wrote {output}: {model.network.name}, {classes}")
    if labels is None and model.labels is not None:
        note("labelled with ImageNet's class names; --labels gives others")
    if preprocess is None:
        given = model.preprocess
        note(
            f"pictures are cropped to {given.crop:.3f} of their shorter side and resized to {given.size} px, with mean"
            f" {_rounded(given.mean)} and std {_rounded(given.std)}; edit {output / 'preprocess.toml'} where that"
            " is not what these weights were trained with"
        )


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
