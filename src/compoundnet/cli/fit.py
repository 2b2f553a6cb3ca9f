"""`fit`: the most accurate classifier of one's own images within a budget."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet.base import parse_bytes, parse_count, parse_duration
from compoundnet.base.machine import keep_freed_memory
from compoundnet.cli.faults import sigterm_as_ctrl_c
from compoundnet.cli.options import (
    DATA_HELP,
    MAX_DROP_HELP,
    AllowMissing,
    Download,
    Force,
    Json,
    MaxFlash,
    MaxLatency,
    MaxMacs,
    MaxMemory,
    MaxParams,
    MaxSram,
    Seed,
    SeveralLabels,
    Storage,
    TimedThreads,
    TrialWorkers,
    Yes,
    complete_data,
    complete_model,
    drop_of,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import STOPPED, UNCONFIRMED, note, print_json, show, table
from compoundnet.train.interruptions import InterruptedRunError

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.fit import Fit

# What `show` and `join` take, and what says nothing without --time.
_OF_SHOW = frozenset(("data", "folder", "json"))
_OF_JOIN = frozenset(("data", "folder", "output", "storage", "models", "download", "allow_missing", "several"))
_OF_RACE = ("workers", "storage", "seed")
_NO_TERMINAL = "there is no terminal to ask before fine-tuning starts; give --yes to start without"


def fit(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help=f"{DATA_HELP} Or `show`, with FOLDER; or `join`, with DATA.",
            autocompletion=complete_data,
        ),
    ],
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER", help="With `show`: NAME.fit, whose result is printed again. With `join`: the images."
        ),
    ] = None,
    output: Annotated[Path, output_option("FOLDER", "Write the model folder here, the file beside it.")] = Path("best"),
    max_latency: MaxLatency = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Bound on the size of the deployed file, such as 6MB.")
    ] = None,
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_memory: MaxMemory = None,
    max_sram: MaxSram = None,
    max_flash: MaxFlash = None,
    target: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Take the bounds of this device profile too.")
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="P", help="Find the fastest that reaches this accuracy, such as 0.95."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(metavar="P%", help=MAX_DROP_HELP, show_default="any, if what else fits is worse"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar="MODEL",
            help="Start from this pretrained model: a name, a folder, or hf-hub:OWNER/NAME; repeatable.",
            autocompletion=complete_model,
            show_default="all that need no download",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="The time for all of it, such as 30min: a sixth to screen, the rest to fine-tune the best.",
            show_default="screen all, no fine-tuning",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Of the deployed file: onnx, openvino, torch (torch.export) or litert (.tflite).",
        ),
    ] = "onnx",
    threads: TimedThreads = None,
    workers: TrialWorkers = 1,
    storage: Storage = None,
    seed: Seed = 0,
    yes: Yes = False,
    download: Download = False,
    allow_missing: AllowMissing = False,
    several: SeveralLabels = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the most accurate classifier of your images within a budget, and write it ready to use.

    Pretrained models at several resolutions are timed on this machine and judged
    by probes, cross-validated on the training images. With --time the best of them
    are fine-tuned in a race. The best that fits is written as a model folder and as
    a file, timed once more, and evaluated once on the test images; FOLDER.fit holds
    the report. `fit join DATA --storage URL -o NAME` works on the race of another machine.
    """
    keep_freed_memory()
    from compoundnet import fit as fitting  # noqa: PLC0415  torch, which the help does without
    from compoundnet.data import open_dataset  # noqa: PLC0415  as above
    from compoundnet.fit.ways import check_format  # noqa: PLC0415  as above

    given = _given(context)
    if data == "show":
        if folder is None:
            raise typer.BadParameter("show needs the folder NAME.fit", param_hint="FOLDER")
        _refuse(given, set(given) - _OF_SHOW, "does not go with `show`, which prints a result again")
        _print(fitting.read_fit(folder), json, Path(folder))
        return
    if folder is not None and data != "join":
        raise typer.BadParameter("goes with `show` and `join` alone", param_hint="FOLDER")
    if data == "join" and (folder is None or storage is None):
        raise typer.BadParameter("join needs the images and --storage URL", param_hint="FOLDER")
    if data == "join":
        _refuse(given, set(given) - _OF_JOIN, "does not go with `join`: the machine that the fit runs on decides it")
    elif time is None:
        _refuse(given, _OF_RACE, "goes with --time: without it nothing is fine-tuned")
    images = data if folder is None else folder
    limits = fitting.Limits(
        max_latency=None if max_latency is None else parse_duration(max_latency),
        max_size=None if max_size is None else parse_bytes(max_size),
        max_macs=None if max_macs is None else parse_count(max_macs),
        max_params=None if max_params is None else parse_count(max_params),
        max_memory=None if max_memory is None else parse_bytes(max_memory),
        max_sram=None if max_sram is None else parse_bytes(max_sram),
        max_flash=None if max_flash is None else parse_bytes(max_flash),
        min_accuracy=min_accuracy,
        max_drop=None if max_drop is None else drop_of(max_drop),
    )
    if target is not None:
        limits = limits.within(fitting.read_device(target))
    seconds = None if time is None else parse_duration(time) / 1000
    check_format(form)
    dataset = open_dataset(images, download=download, allow_missing=allow_missing, labels=labels_per_image(several))
    note(dataset.text())
    if data == "join":
        assert storage is not None
        _join(dataset, output, storage, models)
        return
    timed = 1 if threads is None else threads
    # Images with several labels are not fine-tuned: there is nothing to ask.
    if seconds is not None and not yes and not dataset.multilabel and not sys.stdin.isatty():
        begun = fitting.is_begun(
            dataset, output, limits, seconds, models=models or None, seed=seed, threads=timed, format=form
        )
        if force or not begun:
            note(f"not started: {_NO_TERMINAL}")
            raise typer.Exit(UNCONFIRMED)
    with sigterm_as_ctrl_c():
        found = fitting.fit(
            dataset, output, limits,
            models=models or None,
            seconds=seconds,
            format=form,
            threads=timed,
            workers=workers,
            storage=storage if seconds is not None else None,
            seed=seed,
            replace=force,
            confirm=lambda _: yes or _is_confirmed(),
            notify=note,
        )  # fmt: skip
    _print(found, json)
    assert found.answer is not None
    note(f"wrote {found.answer.model}, {found.answer.file} and {fitting.fit_folder(output) / 'report.html'}")


def _given(context: typer.Context) -> dict[str, str]:
    """The longest names of what the command line gives, by parameter: not those of the environment, which is there for
    every command."""
    found = {}
    for one in context.command.params:
        source = context.get_parameter_source(str(one.name))
        if source is not None and source.name == "COMMANDLINE":
            found[str(one.name)] = max(one.opts, key=len)
    return found


def _refuse(given: Mapping[str, str], names: Iterable[str], why: str) -> None:
    for name in sorted(names):
        if name in given:
            raise typer.BadParameter(why, param_hint=given[name])


def _join(dataset: Dataset, output: Path, storage: str, models: list[str] | None) -> None:
    from compoundnet import fit as fitting  # noqa: PLC0415  torch, which the help does without

    try:
        with sigterm_as_ctrl_c():
            finished = fitting.join_fit(dataset, output, storage, models=models or None, notify=note)
    except (InterruptedRunError, KeyboardInterrupt) as error:
        note("stopped; what was being trained here is trained again by another worker")
        raise typer.Exit(STOPPED) from error
    note(f"{finished} fine-tuning{'s' * (finished != 1)} finished by this worker")


def _is_confirmed() -> bool:
    """Ask before a race. Ctrl-C declines it: there is an answer already."""
    if not sys.stdin.isatty():  # the race that was to go on has to be planned anew
        note(_NO_TERMINAL)
        return False
    try:
        return typer.confirm("Start?", default=True, err=True)
    except typer.Abort:
        note("")  # the cursor is behind the question
        return False


def _print(found: Fit, json: bool, folder: Path | None = None) -> None:
    """Print what was found; of an earlier fit, in a folder, also the notes and where the report is."""
    from compoundnet.fit.report import costs_text, what_more_brings  # noqa: PLC0415  torch, which the help does without

    brings = what_more_brings(found)
    if json:
        print_json(msgspec.to_builtins(found) | {"what_more_brings": brings})
        return
    printed = table("candidate", ">ms", ">accuracy", "dropped")
    tried = [one for one in found.screened if one.latency is not None or one.accuracy is not None]
    for one in tried:
        printed.add_row(
            str(one.candidate),
            "" if one.latency is None else f"{one.latency:.3g}",
            "" if one.accuracy is None else f"{one.accuracy:.1%}",
            one.dropped or "",
        )
    show(printed)
    if len(found.screened) > len(tried):
        more = len(found.screened) - len(tried)
        were = "was" if more == 1 else "were"
        show(f"{more} more {were} dropped without being timed (--json and the report say why)")
    if found.left:
        show(f"{found.left} candidate{' is' if found.left == 1 else 's are'} not screened yet")
    show(f"budget: {found.limits.text()}")
    show(found.answer.text() if found.answer is not None else "no answer yet: the same command goes on")
    for text in filter(None, (costs_text(found), brings)):
        show(text)
    if folder is not None:
        for text in found.notes:
            show(f"note: {text}")
        if (report := folder / "report.html").exists():
            show(f"report: {report}")
