"""`predict -o FOLDER`: the predictions of shards, by any number of processes, each a Parquet part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
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
    from compoundnet.base.images import EncodedImage
    from compoundnet.data.image_shards import ImageShard
    from compoundnet.runtime.prediction_parts import Place

# The most shards among which the range of values is found, and images of tar files that are read for it.
_RANGE_SHARDS, _RANGE_IMAGES = 16, 64


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
    from compoundnet.runtime.prediction_parts import process_place  # noqa: PLC0415  as above

    place = process_place()
    if place.world > 1 and precision == AUTO:
        raise base.CompoundNetError(
            f"{place.launcher} started {place.world} processes, which might choose differently: give --precision a name"
        )
    everything = find_shards(paths, notify=note if place.rank == 0 else base.ignore)
    shards = place.share(everything)
    if place.launcher is not None:
        note(f"process {place.rank} of {place.world} ({place.launcher}): {len(shards):,} of {len(everything):,} shards")
    opened, notes = open_model(model), list[str]()
    if value_range is None:  # the same in every process, since each examines the same images
        how, found_range = opened.preprocess.with_range_of(_range_images(everything))
        value_range, notes = how.range, [] if found_range is None else [found_range]
    for text in notes if place.rank == 0 else ():
        note(text)
    predictor = runtime.Predictor(
        opened, precision=precision, check_on=_first_images(everything) if precision == AUTO else (),
        threads=threads or _threads(place), device=_device(device, place), value_range=value_range, **options,
    )  # fmt: skip
    if predictor.session.choice is not None:
        note(predictor.session.choice.text())

    def say_failure(result: runtime.Prediction | runtime.Failure) -> None:
        if isinstance(result, runtime.Failure):
            display.notify(f"error: {result.path}: {result.reason}")
        elif result.damage is not None:
            display.notify(f"{result.path or ''}: {result.damage}; used as far as it can be decoded")

    with Display("predicting", len(shards), "shards") as display:
        found = predict(
            predictor, shards, folder, resume=resume, each=say_failure, notify=display.notify, progress=display.advance
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


def _range_images(shards: Sequence[ImageShard]) -> Iterator[Path | EncodedImage]:
    """Images among which the range of values is found, of shards spread evenly: all of folders and lists, of which few
    are opened, and the first of tar files, which are in memory."""
    from compoundnet.runtime.timing.agreement import spread  # noqa: PLC0415  as above

    chosen = spread(shards, _RANGE_SHARDS)
    for shard in chosen:
        with suppress(base.CompoundNetError):  # a shard that cannot be read is reported when it is predicted
            images = shard.images()
            yield from islice(images, max(1, _RANGE_IMAGES // len(chosen))) if shard.kind == "tar" else images


def _first_images(shards: Sequence[ImageShard]) -> list[Any]:
    from compoundnet.runtime.timing.agreement import MOST_IMAGES  # noqa: PLC0415  as above

    return list(islice(shards[0].images(), MOST_IMAGES))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _threads(place: Place) -> int | None:
    """The cores of this machine, divided among its processes. SLURM gives each process its own."""
    return None if place.local_world in (None, 1) else max(1, cores() // place.local_world)


def _device(device: str, place: Place) -> str:
    return f"cuda:{place.local_rank}" if device == "cuda" and place.launcher is not None else device
