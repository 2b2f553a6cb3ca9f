"""`train`: a model folder from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from compoundnet import train as training
from compoundnet import zoo
from compoundnet.base.machine import cores, keep_freed_memory
from compoundnet.cli.options import (
    DATA_HELP,
    RECIPE_HELP,
    Accelerator,
    AllowMissing,
    AllowTruncated,
    Decoders,
    Devices,
    Download,
    Force,
    Json,
    Resume,
    Settings,
    SeveralLabels,
    complete_data,
    complete_model,
    complete_network,
    complete_recipe,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import STOPPED, note, print_json, show, table
from compoundnet.cli.progress import TrainingDisplay, accuracies
from compoundnet.train.interruptions import InterruptedRunError
from compoundnet.train.overrides import unused_note
from compoundnet.train.recipe_parts import FEATURES
from compoundnet.train.results import LabelResult, result_fields

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.data.label_cells import LabelsPerImage
    from compoundnet.train import Hardware, Outcome, Recipe, Task
    from compoundnet.train.summary import RunSummary


def train(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help=DATA_HELP, autocompletion=complete_data, show_default=False)
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Fine-tune this model: a name from `compoundnet models list`, a model folder, or hf-hub:OWNER/NAME.",
            autocompletion=complete_model,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",  # typer 0.27 makes --NETWORK of a metavar that is the name in capitals
            metavar="NETWORK",
            help="Train this network from scratch: a name from `compoundnet list`, or a TOML file.",
            autocompletion=complete_network,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=RECIPE_HELP,
            show_default="finetune with --from, quick with --network",
            autocompletion=complete_recipe,
        ),
    ] = None,
    settings: Settings = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="MODEL",
            help="Learn from this model's predictions too (distillation); it must know the classes by name.",
            autocompletion=complete_model,
        ),
    ] = None,
    teacher_features: Annotated[
        bool,
        typer.Option(
            "--teacher-features",
            help=f"Compare features with the teacher's too, with a weight of {FEATURES:g}.",
        ),
    ] = False,
    output: Annotated[Path, output_option("FOLDER", "Write the model folder here.")] = Path("model"),
    resume: Resume = False,
    force: Force = False,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="First choose learning rate and weight decay on held-out images (Kornblith's grid)."
        ),
    ] = False,
    sweep_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Worker processes of --sweep; each trains on one GPU or in one thread.",
            show_default="1",
        ),
    ] = None,
    devices: Devices = 0,
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Machines. Not needed under torchrun and SLURM.")] = 1,
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"],
        typer.Option(help="ddp: every process holds all weights; fsdp: each holds a share of them."),
    ] = "auto",
    accelerator: Accelerator = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile (--set compile=true).")] = False,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Use less memory and more time (--set checkpointing=true)."),
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Train to the same weights each time on a GPU too (--set deterministic=true).",
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="When held-out images have decided, train again from the start on them too (--set refit=true).",
        ),
    ] = False,
    uncalibrated: Annotated[
        bool,
        typer.Option("--no-calibration", help="Fit no temperature for the probabilities on held-out images."),
    ] = False,
    allow_truncated: AllowTruncated = False,
    workers: Decoders = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    several: SeveralLabels = None,
    list_recipes: Annotated[bool, typer.Option("--list-recipes", help="List the recipes and exit.")] = False,
    json: Json = False,
) -> None:
    """Train a network from scratch, or fine-tune a model, and write a model folder."""
    if list_recipes:
        _print_recipes(json)
        return
    if data is None:
        raise typer.BadParameter("give the data to train on, or --list-recipes", param_hint="DATA")
    if sweep_workers is not None and not sweep:
        raise typer.BadParameter("is for --sweep; --devices N trains one model on N", param_hint="--sweep-workers")
    if teacher is not None and sweep:
        raise typer.BadParameter("does not go with --sweep, whose trials have no teacher", param_hint="--teacher")
    if teacher_features and teacher is None:
        raise typer.BadParameter("is for --teacher MODEL", param_hint="--teacher-features")
    flags = [*(settings or []), *(["compile=true"] if compiled else [])]
    flags += [f"distillation.features={FEATURES}"] if teacher_features else []
    flags += ["checkpointing=true"] if checkpointing else []
    flags += ["allow_truncated=true"] if allow_truncated else []
    flags += ["deterministic=true"] if deterministic else []
    flags += ["refit=true"] if refit else []
    chosen = training.override(training.find_recipe(recipe or ("finetune" if start else "quick")), flags)
    if sweep and not chosen.has_steps:
        without = f"chooses a learning rate, and recipe {chosen.name} has no steps"
        raise typer.BadParameter(without, param_hint="--sweep")
    _train(
        chosen,
        _Given(
            data=data,
            start=start,
            network=network,
            teacher=teacher,
            output=output,
            resume=resume,
            force=force,
            sweep=sweep_workers or int(sweep),
            workers=workers,
            download=download,
            allow_missing=allow_missing,
            labels=labels_per_image(several),
            calibrate=not uncalibrated,
            unused=unused_note(chosen, flags),
        ),
        training.Hardware(devices, nodes, strategy, accelerator),
        json,
    )


class _Given(NamedTuple):
    data: str
    start: str | None
    network: str | None
    teacher: str | None
    output: Path
    resume: bool
    force: bool
    sweep: int  # points at a time; 0 without --sweep
    workers: int | None
    download: bool
    allow_missing: bool
    labels: LabelsPerImage | None
    calibrate: bool
    unused: str | None  # names the settings that the recipe does not use


def _train(recipe: Recipe, given: _Given, hardware: Hardware, json: bool) -> None:
    keep_freed_memory()
    from compoundnet.data import open_dataset  # noqa: PLC0415  numpy and torch, which the help does without
    from compoundnet.data.copies import copies_remark  # noqa: PLC0415
    from compoundnet.models import open_folder  # noqa: PLC0415

    # Independent of the recipe's seed, so that runs with other seeds, and `evaluate`, hold out the same test images.
    dataset = open_dataset(given.data, download=given.download, allow_missing=given.allow_missing, labels=given.labels)
    network = zoo.find_scalable(given.network) if given.network is not None else None
    start = open_folder(given.start) if given.start is not None else None
    teacher = open_folder(given.teacher) if given.teacher is not None else None
    task = training.plan_task(
        recipe, dataset, network=network, start=start, teacher=teacher, calibrated=given.calibrate
    )
    notes: list[str] = []
    if given.sweep:
        recipe, notes = _sweep(recipe, task, dataset, given, hardware)
        task = training.plan_task(
            recipe, dataset, network=network, start=start, teacher=teacher, calibrated=given.calibrate
        )
    fabric = training.launch(hardware, recipe)
    first = fabric.is_global_zero
    if first:
        remarks = [*filter(None, [copies_remark(dataset), given.unused]), *task.notes]
        notes += remarks
        for text in (dataset.text(), *remarks):
            note(text)
    try:
        with TrainingDisplay(quiet=not first) as display:
            outcome = training.train(
                task,
                given.output,
                fabric=fabric,
                workers=given.workers,
                resume=given.resume,
                replace=given.force,
                watcher=display,
            )
    except InterruptedRunError as error:
        if first:
            note(str(error))
        raise typer.Exit(STOPPED) from error
    if first:
        notes += display.notes
        _print_outcome(outcome, task.recipe, dataset, display.summary, notes, given.output, json)
        if task.test is not None and outcome.result is None:
            raise typer.Exit(1)  # a note has said why they were not evaluated


def _sweep(recipe: Recipe, task: Task, dataset: Dataset, given: _Given, hardware: Hardware) -> tuple[Recipe, list[str]]:
    """Return the recipe with the best learning rate and weight decay, and the lines that were shown about them."""
    from compoundnet.search import sweep  # noqa: PLC0415  only --sweep needs it
    from compoundnet.train.decoding import decoding_processes  # noqa: PLC0415  torch, as above
    from compoundnet.train.run import check_output  # noqa: PLC0415  as above

    check_output(given.output, resume=given.resume, replace=given.force)
    each = max(1, cores() // given.sweep)
    try:
        # The other processes of the final training also get here, after the sweep.
        with TrainingDisplay(quiet=not training.starts_as_first()) as display:
            chosen = sweep.sweep(
                recipe,
                dataset,
                given.output,
                network=task.network if task.start is None else None,
                start=task.start,
                processes=given.sweep,
                workers=decoding_processes(task, each) if given.workers is None else given.workers,
                accelerator=hardware.accelerator,
                watcher=display,
            )
            return chosen, display.notes
    except InterruptedRunError as error:
        note(str(error))
        raise typer.Exit(STOPPED) from error


def _print_outcome(
    outcome: Outcome,
    recipe: Recipe,
    dataset: Dataset,
    summary: RunSummary | None,
    notes: list[str],
    output: Path,
    json: bool,
) -> None:
    network = outcome.model.network
    if json:
        print_json(
            {
                "model": str(output),
                "network": network.name,
                "num_classes": network.num_classes,
                "recipe": recipe.fields(),
                "data": dataset.facts(),
                "summary": summary,
                "notes": notes,
                "result": None if outcome.result is None else result_fields(outcome.result),
                "calibration": outcome.calibration,
                "thresholds": outcome.thresholds,
                "probe": None if outcome.probe is None else outcome.probe.fields(),
                "epochs": outcome.history,
                "refit": outcome.refit,
            }
        )
        return
    several = outcome.model.postprocess.multilabel
    show(f"{output}: {network.name}, {network.num_classes} {'labels' if several else 'classes'}")
    if outcome.result is not None:
        result = outcome.result
        if isinstance(result, LabelResult):
            show(
                f"test: mAP {result.mean_average_precision:.2%}, F1 as mean over labels {result.mean_f1:.2%}, all"
                f" labels of an image right {result.top1:.2%}, {result.count:,} images"
            )
            return
        show(f"test: {accuracies(result.top1, result.mean_per_class)}, {result.count:,} images")


def _print_recipes(json: bool) -> None:
    if json:
        print_json([recipe.fields() for recipe in training.recipes().values()])
        return
    printed = table("recipe", "for", ">batch", ">lr", "length")
    for recipe in training.recipes().values():
        length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs:g} epochs" if recipe.epochs else "-"
        printed.add_row(recipe.name, recipe.about, str(recipe.batch), f"{recipe.lr:g}", length)
    show(printed, "--set FIELD=VALUE changes a field; docs/training.md describes the fields.")
