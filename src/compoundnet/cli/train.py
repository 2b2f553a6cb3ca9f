"""`train`: a model folder from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from compoundnet.cli.decoding import decoding_processes
from compoundnet.cli.output import note, print_json, show, table

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.train import Hardware, Outcome, Recipe, Task


# The exit code of a run that was asked to stop and can be resumed: neither done nor failed.
_STOPPED = 3


def train(
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="A name of `compoundnet data list`, a folder or a manifest."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune this model: a name or a model folder.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="Train this network from scratch: a name or a TOML file.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="`finetune` with --from and `quick` without, unless given.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value of a recipe's field.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The model folder to write.")] = Path(
        "model"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on exactly where the run stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model folder, and begin a run anew.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="First choose lr and weight decay on held-out pictures (Kornblith's grid).")
    ] = False,
    sweep_workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Points of the sweep at a time, each on one GPU or in one thread."),
    ] = None,
    devices: Annotated[int, typer.Option(min=0, help="GPUs (or CPU processes) a node; 0: all GPUs.")] = 0,
    nodes: Annotated[int, typer.Option(min=1, help="Machines. torchrun and SLURM say it themselves.")] = 1,
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"], typer.Option(help="ddp: each process has all weights; fsdp: a share of them.")
    ] = "auto",
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], typer.Option(help="What to run on.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="--set compile=true: torch.compile.")] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="--set checkpointing=true: less memory for more time.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode pictures, for each training process.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set where that is possible.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Take a data set that differs from the published counts.")
    ] = False,
    list_recipes: Annotated[bool, typer.Option("--list-recipes", help="The recipes, and nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Train a network from scratch, or fine-tune a model, and write a model folder."""
    from compoundnet.train.overrides import override
    from compoundnet.train.recipe import find_recipe

    if list_recipes:
        _print_recipes(json)
        return
    if data is None:
        raise typer.BadParameter("give the data to train on, or --list-recipes", param_hint="DATA")
    if sweep_workers is not None and not sweep:
        raise typer.BadParameter("is for --sweep; --devices N trains one model on N", param_hint="--sweep-workers")
    flags = [*(settings or []), *(["compile=true"] if compiled else [])]
    flags += ["checkpointing=true"] if checkpointing else []
    chosen = override(find_recipe(recipe or ("finetune" if start else "quick")), flags)
    from compoundnet.train import Hardware

    _train(
        chosen,
        _Given(
            data, start, network, output, resume, force, sweep_workers or int(sweep), workers, download, allow_missing
        ),
        Hardware(devices, nodes, strategy, accelerator),
        json,
    )


class _Given(NamedTuple):
    data: str
    start: str | None
    network: str | None
    output: Path
    resume: bool
    force: bool
    sweep: int  # points at a time; 0 without --sweep
    workers: int | None
    download: bool
    allow_missing: bool


def _train(recipe: Recipe, given: _Given, hardware: Hardware, json: bool) -> None:
    from compoundnet import train, zoo
    from compoundnet.cli.training_progress import Bar
    from compoundnet.data import open_dataset
    from compoundnet.models import open_folder
    from compoundnet.train.interruptions import InterruptedRunError

    # Not by the recipe's seed: runs with other seeds, and `evaluate`, hold the same test pictures out.
    dataset = open_dataset(given.data, download=given.download, allow_missing=given.allow_missing)
    network = zoo.find_scalable(given.network) if given.network is not None else None
    start = open_folder(given.start) if given.start is not None else None
    task = train.plan_task(recipe, dataset, network=network, start=start)
    workers = given.workers if given.workers is not None else decoding_processes(len(task.train), worth=5000)
    if given.sweep:
        recipe = _sweep(task, dataset, given, hardware, workers)
        task = train.plan_task(recipe, dataset, network=network, start=start)
    fabric = train.launch(hardware, recipe)
    first = fabric.is_global_zero
    for text in dataset.notes if first else ():
        note(text)
    try:
        with Bar(quiet=not first) as bar:
            outcome = train.train(
                task,
                given.output,
                fabric=fabric,
                workers=workers,
                resume=given.resume,
                replace=given.force,
                watcher=bar,
            )
    except InterruptedRunError as error:
        if first:
            note(str(error))
        raise typer.Exit(_STOPPED) from error
    if first:
        _print_outcome(outcome, given.output, json)


def _sweep(task: Task, dataset: Dataset, given: _Given, hardware: Hardware, workers: int) -> Recipe:
    """The task's recipe with the learning rate and weight decay that do best."""
    import os

    from compoundnet import train
    from compoundnet.cli.training_progress import Bar
    from compoundnet.train.interruptions import InterruptedRunError
    from compoundnet.train.run import check_output

    check_output(given.output, resume=given.resume, replace=given.force)
    try:
        # The final training's other processes come by here too, when all is found. RANK is torchrun's number of them,
        # LOCAL_RANK and NODE_RANK are Fabric's, SLURM_PROCID is SLURM's.
        ranks = [os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")]
        with Bar(quiet=any(rank != "0" for rank in ranks)) as bar:
            return train.sweep(
                task.recipe,
                dataset,
                given.output,
                network=task.network if task.start is None else None,
                start=task.start,
                processes=given.sweep,
                workers=workers,
                accelerator=hardware.accelerator,
                watcher=bar,
            )
    except InterruptedRunError as error:
        note(str(error))
        raise typer.Exit(_STOPPED) from error


def _print_outcome(outcome: Outcome, output: Path, json: bool) -> None:
    if json:
        print_json({"model": str(output), "result": outcome.result, "epochs": outcome.history})
        return
    show(f"{output}: {outcome.model.network.name}, {outcome.model.network.num_classes} classes")
    if outcome.result is not None:
        result = outcome.result
        show(f"test: top-1 {result.top1:.2%}, mean per class {result.mean_per_class:.2%}, {result.count:,} pictures")


def _print_recipes(json: bool) -> None:
    from compoundnet.train.recipe import recipes

    if json:
        print_json([recipe.fields() for recipe in recipes().values()])
        return
    printed = table("recipe", "what for", ">batch", ">lr", "length")
    for recipe in recipes().values():
        length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs:g} epochs"
        printed.add_row(recipe.name, recipe.about, str(recipe.batch), f"{recipe.lr:g}", length)
    show(printed, "--set FIELD=VALUE changes a field; the fields are described in docs/training.md.")
