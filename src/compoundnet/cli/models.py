"""`models list`, `fetch`, `push` and `convert`: pretrained models, the hub, and weights of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import arch, models, zoo
from compoundnet.base import format_count, parse_count
from compoundnet.cli.options import (
    Force,
    Json,
    MaxMacs,
    MaxParams,
    complete_model,
    complete_network,
    output_option,
)
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.tune import tune
from compoundnet.models.hub import is_hub_name, parse_hub_name

app = typer.Typer(no_args_is_help=True, help="List, fetch, tune and push models; convert weights of other libraries.")
app.command()(tune)


_LAYOUTS = "timm, timm-native, torchvision, lukemelas, transformers, keras, tensorflow or compoundnet"


def _complete_layout(incomplete: str) -> list[str]:
    return [name for name in models.LAYOUTS if name.startswith(incomplete)]


def _complete_sort(incomplete: str) -> list[str]:
    from compoundnet.models.catalogue import SORTS  # noqa: PLC0415  imported when the shell asks

    return [name for name in SORTS if name.startswith(incomplete)]


@app.command(name="list")
def list_models(
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="network, top1 (the best first), macs or params (the smallest first).",
            autocompletion=_complete_sort,
        ),
    ] = "network",
    json: Json = False,
) -> None:
    """List the pretrained models that are known by name, all of them or those within a budget."""
    found = models.select(
        max_macs=None if max_macs is None else parse_count(max_macs),
        max_params=None if max_params is None else parse_count(max_params),
        sort=sort,
    )
    rows = [(entry, arch.cost(entry.build_network()), models.is_fetched(entry)) for entry in found]
    if json:
        print_json(
            [
                {
                    "name": entry.name,
                    "aliases": entry.aliases,
                    "network": entry.network,
                    "training": entry.training,
                    "resolution": entry.preprocess.size,
                    "training_size": entry.training_size,
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
    printed = table("model", "training", ">input", ">parameters", ">FLOPs", ">top-1", "from", "fetched")
    for entry, cost, fetched in rows:
        printed.add_row(
            entry.name,
            entry.training,
            _sizes(entry),
            format_count(cost.params),
            format_count(cost.macs),
            f"{entry.top1:.1f} %",
            str(entry.source),
            "yes" if fetched else "",
        )
    licences = sorted({entry.licence for entry in found})
    show(
        printed,
        "224/256 px: trained at 224 px, evaluated at 256 px. top-1: the published accuracy on ImageNet's validation\n"
        f"images. FLOPs: multiply-adds of an image in evaluation. Licence of the weights: {', '.join(licences)}.",
    )


def _sizes(entry: models.PretrainedWeights) -> str:
    trained = "" if entry.training_size == entry.preprocess.size else f"{entry.training_size}/"
    return f"{trained}{entry.preprocess.size} px"


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name from `compoundnet models list`, or hf-hub:OWNER/NAME.",
            autocompletion=complete_model,
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read this copy of its file, where the hub is unreachable."),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch a pretrained model now. Commands that are given its name fetch it the first time."""
    notes: list[str] = []
    if is_hub_name(name):
        if file is not None:
            raise typer.BadParameter("--file is for names of `models list`; `models convert FILE` reads any other")
        model = models.fetch_hub(name, notes.append)
    else:
        model = models.fetch(models.find(name), file, notes.append)
    for line in notes:
        note(line)
    if json:
        print_json({"name": model.name, "folder": str(model.folder), "network": model.network.name, "notes": notes})
    else:
        note(f"{model.name} is in {model.folder}")


@app.command()
def push(
    model: Annotated[str, typer.Argument(metavar="FOLDER", help="A model folder.", autocompletion=complete_model)],
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="hf-hub:OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="The message of the commit.")] = "Add model",
    output: Annotated[
        Path | None, output_option("FOLDER", "Write the repository to this folder, and push nothing.")
    ] = None,
    json: Json = False,
) -> None:
    """Push a model to the Hugging Face hub, with a model card, and in timm's form where timm has the network."""
    notes: list[str] = []
    if output is not None:
        place = str(models.write_repository(model, output, parse_hub_name(repository).name, notify=notes.append))
    else:
        place = models.push(model, repository, private=private, message=message, notify=notes.append)
    if json:
        print_json({"repository": repository, "written": place, "notes": notes})
    note(f"wrote {place}")
    for line in notes:
        note(line)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A checkpoint, weights file or folder of the hub; or a TensorFlow prefix; with --to a MODEL.",
        ),
    ],
    output: Annotated[Path, output_option("PATH", "Write the model folder here; with --to the file.")],
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"The library it is from: {_LAYOUTS}.",
            show_default="told from names and shapes",
            autocompletion=_complete_layout,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",  # as in train
            metavar="NETWORK",
            help="The network of these weights: a name from `compoundnet list`, or a TOML file.",
            show_default="told from names and shapes",
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
        bool, typer.Option("--raw", help="Take the trained weights where a checkpoint holds their average too.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Convert another library's weights to a model folder, or with --to a model's weights to another library's file.

    Layout and network are told from the names and shapes of the tensors; averaged weights are preferred. What was
    recognised is said.
    """
    if to is not None:
        if layout or network or labels or preprocess or raw:
            raise typer.BadParameter("--to writes a model's weights as they are; it goes with -o and --force only")
        written = models.convert_to(source, output, layout=to, replace=force)
        if json:
            print_json({"file": str(written), "layout": to})
        note(f"wrote {written}, for {models.layout(to).library}")
        return
    found = models.read_foreign(
        source, layout=layout, network=None if network is None else zoo.find_scalable(network), raw=raw
    )
    model = models.convert(
        found,
        output,
        labels=labels,
        preprocess=None if preprocess is None else models.Preprocess.load(preprocess),
        replace=force,
    )
    notes = [*found.notes, *_assumed(found, model, labels, preprocess, output)]
    if json:
        print_json(
            {
                "model": str(output),
                "layout": found.layout,
                "network": model.network.name,
                "scaling": model.network.scaling,
                "num_classes": model.network.num_classes,
                "in_channels": model.network.in_channels,
                "averaged": found.averaged,
                "prefix": found.prefix,
                "left_out": found.left_out,
                "labels": model.labels,
                "preprocess": model.preprocess,
                "notes": notes,
            }
        )
    classes = f"{model.network.num_classes} classes" if model.network.num_classes else "without a classifier"
    note(f"wrote {output}: {model.network.name} in the layout {found.layout}, {classes}")
    for line in notes:
        note(line)


def _assumed(
    found: models.ForeignModel, model: models.ModelFolder, labels: Path | None, preprocess: Path | None, output: Path
) -> list[str]:
    """What is not in the source, and was supplied."""
    lines = []
    if labels is None and found.labels is None:
        named = "labelled with ImageNet's class names; give others with --labels"
        none = "the classes have no names; give them with --labels"
        lines += [named] if model.labels is not None else [none] if model.network.num_classes else []
    if preprocess is None:
        given, edit = model.preprocess, f"edit {output / 'preprocess.toml'} if these weights were trained"
        if found.preprocess is None:
            why = f"; {edit} with other values"
        elif found.layout == "keras":
            why = f"; a Keras file does not say how images are resized and cropped: {edit} in another way"
        else:
            why = ", as the source states"
        lines.append(
            f"of an image the network sees {given.describe()}, with mean {_rounded(given.mean)} and std"
            f" {_rounded(given.std)}{why}"
        )
    return lines


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
