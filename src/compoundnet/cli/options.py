"""The arguments and options that several commands share, each defined once.

An option of one name means the same in every command, except those that tests/cli/test_cli_options.py lists: --workers,
for example, are processes that decode images, and in `search` and `fit` processes that train networks. The shell
completes names of networks, models, data sets and recipes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compoundnet import arch
from compoundnet.base import CompoundNetError, read_toml
from compoundnet.runtime.backends.registry import BACKENDS


def chosen_rule(rule: str | None, width_share: float | None, found: Path | None) -> arch.ScalingRule | None:
    """Return the scaling rule of `RuleName`, `WidthShare` and `CoefficientsFile`; None if none of them was given."""
    if found is not None:
        if rule is not None or width_share is not None:
            other = "--rule" if rule is not None else "--width-share"
            raise typer.BadParameter(f"--coefficients is a rule of its own; leave out {other}")
        return arch.own_rule(read_toml(found, arch.FoundCoefficients).coefficients)
    if width_share is not None:
        if rule != "fast":
            raise typer.BadParameter("--width-share goes with --rule fast")
        return arch.fast_scaling(width_share)
    return None if rule is None else arch.find_rule(rule)


def labels_per_image(several: bool | None) -> Literal["one", "several"] | None:
    """Return the value of `SeveralLabels` as `open_dataset` takes it."""
    return None if several is None else "several" if several else "one"


def drop_of(text: str) -> float:
    """Return the value of `--max-drop`, such as 1% or 0.01, as a fraction."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        raise CompoundNetError(
            f"--max-drop is a percentage such as 1%, or a fraction such as 0.01; got {text}"
        ) from None
    return value / 100 if text.strip().endswith("%") else value


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


# Completions import their values only when the shell requests them, so that no command is slowed down.
def complete_network(incomplete: str) -> list[str]:
    """Return the networks of the catalogue whose names start so."""
    from compoundnet import arch  # noqa: PLC0415  imported when the shell asks

    return _starting(incomplete, arch.networks())


def complete_rule(incomplete: str) -> list[str]:
    """Return the scaling rules whose names start so."""
    return _starting(incomplete, arch.known_rules())


def complete_model(incomplete: str) -> list[str]:
    """Return the pretrained models whose names start so."""
    from compoundnet import models  # noqa: PLC0415  as above

    return _starting(incomplete, (entry.name for entry in models.entries()))


def complete_data(incomplete: str) -> list[str]:
    """Return the data sets that are known by name and start so."""
    from compoundnet.data.catalogue import known_datasets  # noqa: PLC0415  as above

    return _starting(incomplete, known_datasets())


def complete_recipe(incomplete: str) -> list[str]:
    """Return the training recipes whose names start so."""
    from compoundnet.train.recipe import recipes  # noqa: PLC0415  as above

    return _starting(incomplete, recipes())


def complete_image_or_model(context: typer.Context, incomplete: str) -> list[str]:
    """Return the pretrained models whose names start so, for the first argument; images are files."""
    return [] if context.params.get("given") else complete_model(incomplete)


NetworkName = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="A name from `compoundnet list`, or a network's TOML file.",
        autocompletion=complete_network,
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name from `compoundnet models list`, a model folder, an exported file, or hf-hub:OWNER/NAME.",
        autocompletion=complete_model,
    ),
]
MaxMacs = Annotated[
    str | None, typer.Option("--max-macs", metavar="N", help="Bound on multiply-adds per image, such as 1.8G.")
]
MaxParams = Annotated[str | None, typer.Option("--max-params", metavar="N", help="Bound on parameters, such as 12M.")]
RuleName = Annotated[
    str | None,
    typer.Option(
        "--rule",
        metavar="NAME",
        help="How depth, width and resolution share the growth: compound (the paper), fast (mainly width: fewer"
        " activations) or tiny (TinyNet: for smaller networks only).",
        autocompletion=complete_rule,
    ),
]
WidthShare = Annotated[
    float | None,
    typer.Option(
        "--width-share",
        metavar="A",
        help="With --rule fast: the share of the growth that width takes, from 0 to 1.",
        show_default=f"{arch.WIDTH_SHARE}",
    ),
]
CoefficientsFile = Annotated[
    Path | None,
    typer.Option(
        "--coefficients",
        metavar="FILE.toml",
        help="Scale by the alpha, beta and gamma of this file, such as the result of `search coefficients`.",
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option("--classes", "--num-classes", metavar="N", help="Number of classes.", show_default="the network's"),
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", metavar="BYTES", help="Bound on peak memory, such as 200MB.")
]
MaxSram = Annotated[
    str | None,
    typer.Option("--max-sram", metavar="BYTES", help="Bound on int8 activations on a microcontroller, such as 320kB."),
]
MaxFlash = Annotated[
    str | None,
    typer.Option("--max-flash", metavar="BYTES", help="Bound on int8 weights on a microcontroller, such as 1MB."),
]
MaxLatency = Annotated[
    str | None,
    typer.Option(
        "--max-latency",
        metavar="TIME",
        help="Bound on the time of one image on this machine, such as 30ms. It is measured.",
    ),
]

Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE_OR_FOLDER", help="Image files, and folders that are searched for them.")
]
DATA_HELP = (
    "A name from `compoundnet data list` (`digits`, `food101:FOLDER`), a folder with one folder of images per class,"
    " or a list of images (.csv, .tsv, .txt, .jsonl, .parquet)."
)
DataName = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, autocompletion=complete_data)]
SplitName = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="train, val or test; all: the whole of a folder that has no splits.",
        show_default="test, or val where there is none",
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue exactly where the run stopped.")]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write a CSV file with a row for each image.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]


def output_option(metavar: str, what: str) -> Any:
    """Return `-o`, `--output`: the file or folder for the result of a command."""
    return typer.Option("-o", "--output", metavar=metavar, help=what)


def check_suffix(option: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Raise a usage error if the file of an option has none of these suffixes, which choose its format."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise typer.BadParameter(f"{path} must end in {' or '.join(suffixes)}", param_hint=option)


NetworkFile = Annotated[Path | None, output_option("FILE.toml", "Write the network to this file.")]

_THREADS = "Threads to compute with."
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help=_THREADS, show_default="all cores")]
# Latencies are comparable if one core computes, so commands that measure them use one thread by default.
TimedThreads = Annotated[int | None, typer.Option("--threads", metavar="N", help=_THREADS, show_default="1")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Images at a time.")]


def top_option(default: int) -> Any:
    """Return `--top`: the number of classes shown for an image."""
    what = "Show the N most probable classes of each image."
    return typer.Option("--top", min=1, metavar="N", help=what, show_default=str(default))


Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where torch runs: cpu, cuda, cuda:1 or mps.")]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help=f"{', '.join(backend.name for backend in BACKENDS)}, or auto (the fastest, except compile).",
        show_default="onnxruntime",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="float32, bfloat16 (AMX, AVX512-BF16 or a GPU), float16 (a GPU), int8 (after `models tune`), or auto: the"
        " fastest that predicts what float32 predicts.",
        show_default="float32, or what `models tune` found",
    ),
]

# Training and evaluation on several devices
Devices = Annotated[
    int, typer.Option("--devices", min=0, metavar="N", help="GPUs, or processes on a CPU, per machine; 0: all GPUs.")
]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu"],
    typer.Option("--accelerator", help="What to run on; auto: GPUs of CUDA, or the CPU."),
]
Decoders = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Worker processes per device that decode images.",
        show_default="automatic",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download the data set if it is missing.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Accept a data set whose counts differ from the published ones.")
]
AllowTruncated = Annotated[
    bool,
    typer.Option(
        "--allow-truncated", help="Use truncated and damaged images as far as they can be decoded, and name them."
    ),
]


ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW:HIGH",
        help="The values that become black and white in images with more than 8 bits a value, such as 0:4095.",
        show_default="the model's, the files', or found in the values",
    ),
]
SeveralLabels = Annotated[
    bool | None,
    typer.Option(
        "--several-labels/--one-class",
        help="An image has several labels, or none; or exactly one class.",
        show_default="a list decides by its cells and says so; else one class",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe; repeatable."),
]
FORMAT_HELP = "onnx, openvino, torch (torch.export), litert or coreml."
MAX_DROP_HELP = "The accuracy that int8 may lose on labelled images, such as 1%."
RECIPE_HELP = "A name from `train --list-recipes`, or a TOML file."
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help=RECIPE_HELP,
        autocompletion=complete_recipe,
    ),
]

# Searches and studies
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar="COMPOUNDNET_STORAGE",
        help="Keep the study at postgresql://USER@HOST/DATABASE, for workers on many machines.",
        show_default="a file of this machine",
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="The study at a storage URL: the name of the folder it began with."),
]
TrialWorkers = Annotated[
    int,
    typer.Option("--workers", min=1, metavar="N", help="Worker processes; each trains one network at a time."),
]
StudyFolder = Annotated[Path, output_option("STUDY", "Keep the study in this folder.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, metavar="K", help="Train each network with K seeds.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, metavar="N", help="Seed of what is random, or the first of several.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Start without asking, whatever it costs.")]
