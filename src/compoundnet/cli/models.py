"""`models list`, `models fetch` and `models convert`: pretrained models, and weights of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import arch, models, zoo
from compoundnet.base import format_count
from compoundnet.cli.options import Force, Json, complete_model, complete_network, output_option
from compoundnet.cli.output import note, print_json, show, table

app = typer.Typer(no_args_is_help=True, help="List and fetch pretrained models; convert weights of other libraries.")


_LAYOUTS = "timm, timm-native, torchvision, lukemelas, transformers, keras or tensorflow"


def _complete_layout(incomplete: str) -> list[str]:
    return [name for name in models.LAYOUTS if name.startswith(incomplete)]


@app.command(name="list")
def list_models(json: Json = False) -> None:
    """List the pretrained models that are known by name."""
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
    show(printed, "top-1: the published accuracy on ImageNet's validation images.")


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A name from `compoundnet models list`.", autocompletion=complete_model),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read this copy of its file, where the hub is unreachable."),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch a pretrained model now. Commands that are given its name fetch it the first time."""
    model = models.fetch(models.find(name), file)
    if json:
        print_json({"name": model.name, "folder": str(model.folder)})
    else:
        note(f"{model.name} is in {model.folder}")


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A weights file, or the prefix of a TensorFlow checkpoint; with --to a MODEL."
        ),
    ],
    output: Annotated[Path, output_option("PATH", "Write the model folder here; with --to the file.")],
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"The library it is from: {_LAYOUTS}.",
            autocompletion=_complete_layout,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="The network of these weights: a name from `compoundnet list`, or a TOML file.",
            autocompletion=complete_network,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write a model's weights as this library loads them, instead: .safetensors or .pth, .h5 for keras.",
            autocompletion=_complete_layout,
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read the class names from this file, one per line.")
    ] = None,
    preprocess: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Read the preprocessing of images from this file.",
            show_default="the source's, or its authors'",
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Take the weights without moving average from a TensorFlow checkpoint.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Convert another library's weights to a model folder, or with --to a model's weights to another library's file.

    Classes and input channels are those of the file.
    """
    if to is not None:
        if layout or network or labels or preprocess or raw:
            raise typer.BadParameter("--to writes a model's weights as they are; it goes with -o and --force only")
        written = models.convert_to(source, output, layout=to, replace=force)
        if json:
            print_json({"file": str(written), "layout": to})
        note(f"wrote {written}, for {models.layout(to).library}")
        return
    if layout is None or network is None:
        raise typer.BadParameter("give --layout and --network of a weights file, or --to for a model")
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
    if json:
        print_json(
            {
                "model": str(output),
                "network": model.network.name,
                "num_classes": model.network.num_classes,
                "preprocess": model.preprocess,
            }
        )
    classes = f"{model.network.num_classes} classes" if model.network.num_classes else "without a classifier"
    note(f"wrote {output}: {model.network.name}, {classes}")
    if labels is None and model.labels is not None:
        note("labelled with ImageNet's class names; give others with --labels")
    if preprocess is None:
        given = model.preprocess
        note(
            f"of an image the network sees {given.describe()}, with mean {_rounded(given.mean)} and std"
            f" {_rounded(given.std)}; edit {output / 'preprocess.toml'} if these"
            " weights were trained with other values"
        )


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
