"""`predict -o FOLDER`: the predictions of shards, by any number of processes, each a Parquet part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from compoundnet import base, runtime
from compoundnet.base.machine import cores
from compoundnet.cli.output import note, print_json
from compoundnet.cli.progress import Display
from compoundnet.runtime.backends.registry import AUTO

if TYPE_CHECKING:
    from compoundnet.base.image_values import Range
    from compoundnet.models import Model
    from compoundnet.runtime.prediction_parts import Place

# The most images of tar files that are read to find the range of values.
_RANGE_IMAGES = 64


def predict_shards(
    model: str,
    paths: Sequence[str],
    folder: Path,
    *,
    resume: bool,
    precision: str | None,
    threads: int | None,
    device: str,
    json: bool,
    value_range: Range | None,
    **options: Any,
) -> None:
    """Predict this process's shards of `paths`, and report; `options` are those of `Predictor`."""
    from compoundnet.data.image_shards import find_shards  # noqa: PLC0415  `--help` does not wait for PIL
    from compoundnet.models import open_model  # noqa: PLC0415  as above
    from compoundnet.runtime.prediction_parts import predict_shards as predict  # noqa: PLC0415  as above
    from compoundnet.runtime.prediction_parts import process_place, sample_images  # noqa: PLC0415  as above
    from compoundnet.runtime.timing.agreement import MOST_IMAGES  # noqa: PLC0415  as above

    place, opened = process_place(), open_model(model)
    device = _device(device, place)
    _check_choice(place, opened, precision)
    notes: list[str] = []

    def say(text: str) -> None:  # what all processes find alike
        notes.append(text)
        if place.rank == 0:
            note(text)

    everything = find_shards(paths, notify=say)
    shards = place.share(everything)
    if place.launcher is not None:
        where = "" if device == "cpu" else f" on {device}"
        note(
            f"process {place.rank} of {place.world} ({place.launcher}): {len(shards):,} of {len(everything):,}"
            f" shards{where}"
        )
    if value_range is None:  # the same in every process, since each examines the same images
        how, found_range = opened.preprocess.with_range_of(sample_images(everything, _RANGE_IMAGES))
        value_range = how.range
        if found_range is not None:
            say(found_range)
    predictor = runtime.Predictor(
        opened, precision=precision, check_on=list(sample_images(everything, MOST_IMAGES)) if precision == AUTO else (),
        threads=_threads(place) if threads is None else threads, device=device, value_range=value_range, **options,
    )  # fmt: skip
    if predictor.session.choice is not None:
        notes.append(predictor.session.choice.text())
        note(notes[-1])

    def say_failure(result: runtime.Prediction | runtime.Failure) -> None:
        if isinstance(result, runtime.Failure):
            display.notify(f"error: {result.path}: {result.reason}")
        elif result.damage is not None:
            display.notify(f"{result.path or ''}: {result.damage}; used as far as it can be decoded")

    def say_of_shard(text: str) -> None:
        notes.append(text)
        display.notify(text)

    with Display("predicting", len(shards), "shards") as display:
        found = predict(
            predictor, shards, folder, resume=resume, each=say_failure, notify=say_of_shard, progress=display.advance
        )
    rate = found.images / found.seconds if found.seconds else 0.0
    if json:
        ran = {"backend": predictor.session.backend, "precision": predictor.session.precision}
        print_json(
            {"folder": str(folder), "process": msgspec.to_builtins(place), **ran, **msgspec.to_builtins(found)}
            | {"images_per_second": rate, "notes": notes}
        )
    note(
        f"wrote {_counted(found.written, 'part')} into {folder}: {_counted(found.images, 'image')}, {rate:,.1f} a"
        " second" + (f"; {_counted(found.kept, 'part')} kept from before" if found.kept else "")
    )
    if found.failures:
        note(f"{found.failures:,} of {found.images:,} images could not be read; their rows say why")
    if found.failed:
        note(f"{_counted(found.failed, 'shard')} without a part, because the shard could not be read to its end")
    if found.failures or found.failed:
        raise typer.Exit(1)


def _check_choice(place: Place, opened: Model, precision: str | None) -> None:
    """Refuse a precision that each of several processes would choose by its own timings."""
    from compoundnet.models.tuning import is_tuned  # noqa: PLC0415  as above

    tuned = precision is None and is_tuned(opened)
    if place.world > 1 and (tuned or precision == AUTO):
        chosen = f"{opened.name} was tuned, and " if tuned else ""
        raise base.CompoundNetError(
            f"{chosen}{place.launcher} started {place.world} processes, which might choose different precisions: give"
            " --precision a name, such as float32"
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _threads(place: Place) -> int | None:
    """The cores of this machine, divided among its processes. SLURM gives each process its own."""
    return None if place.local_world in (None, 1) else max(1, cores() // place.local_world)


def _device(device: str, place: Place) -> str:
    """The GPU of a process. With `srun --gpus-per-task=1` each sees its own alone, which is cuda:0 to all of them."""
    if device != "cuda" or place.launcher is None:
        return device
    base.need("torch", "the device cuda", "torch")
    import torch  # noqa: PLC0415  slow to load, and not needed on the CPU

    visible = torch.cuda.device_count()
    return f"cuda:{place.local_rank % visible}" if visible else device
