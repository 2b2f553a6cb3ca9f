"""Predictions of many shards: a Parquet file for each, whole or not at all, by any number of processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify, ignore, limits, make_folder, need, read_file, scratch_folder
from compoundnet.base.images import EncodedImage
from compoundnet.base.progress import Progress
from compoundnet.base.table_files import parquet_file, parquet_metadata
from compoundnet.data.image_shards import PART_KEY, ImageShard, ShardError
from compoundnet.runtime.predict import Failure, Prediction, Predictor
from compoundnet.runtime.prediction_tables import prediction_columns, prediction_row
from compoundnet.runtime.timing.agreement import spread

RUN_FILE = "predictions.json"
# The most shards of which a sample is taken.
_SAMPLED = 16


class RunSettings(msgspec.Struct, frozen=True):
    """What all parts of a folder have in common, in predictions.json.

    Attributes:
        model: The name of the model.
        identity: The sha256 of its weights and the like.
        precision: The precision in which it ran.
        preprocess: How images were prepared.
        postprocess: How logits became probabilities and labels.
        class_names: The sha256 of the names of the classes.
        top: The number of classes in a row.
        unknown_below: The probability below which an image is unknown.
        allow_truncated: Whether damaged images were used.
    """

    model: str
    identity: dict[str, str]
    precision: str
    preprocess: str
    postprocess: str
    class_names: str
    top: int
    unknown_below: float
    allow_truncated: bool


class ShardCounts(msgspec.Struct, frozen=True):
    """What one process did.

    Attributes:
        written: The shards that were predicted.
        kept: The shards whose parts were there already.
        failed: The shards that could not be read to their end; they have no part.
        images: The images of the shards that were predicted.
        failures: Those of them that could not be read; their rows say why.
        seconds: The time from the first image to the last.
    """

    written: int
    kept: int
    failed: int
    images: int
    failures: int
    seconds: float


class Place(msgspec.Struct, frozen=True):
    """This process among those that share the work.

    Attributes:
        rank: Its number, from 0.
        world: The number of processes.
        local_rank: Its number among those on this machine.
        local_world: The number of processes on this machine; None if that is unknown.
        launcher: torchrun or SLURM; None for a process alone.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int | None = 1
    launcher: str | None = None

    def share(self, shards: Sequence[ImageShard]) -> Sequence[ImageShard]:
        """Return the shards of this process."""
        return shards[self.rank :: self.world]


def process_place() -> Place:
    """Return the place that torchrun, or `srun` of SLURM, gives this process in the environment."""
    names = os.environ
    if "LOCAL_WORLD_SIZE" in names and "RANK" in names:
        return Place(
            int(names["RANK"]), int(names["WORLD_SIZE"]), int(names["LOCAL_RANK"]), int(names["LOCAL_WORLD_SIZE"]),
            "torchrun",
        )  # fmt: skip
    # Only srun sets the number of tasks of a step: a batch script or a shell of SLURM is one process.
    if "SLURM_STEP_NUM_TASKS" in names and "SLURM_PROCID" in names:
        return Place(
            int(names["SLURM_PROCID"]), int(names["SLURM_STEP_NUM_TASKS"]), int(names.get("SLURM_LOCALID", "0")), None,
            "SLURM",
        )  # fmt: skip
    return Place()


def sample_images(shards: Sequence[ImageShard], most: int) -> Iterator[Path | EncodedImage]:
    """Yield images of up to 16 shards, spread evenly: all of folders and lists, of which the caller opens some, and the
    first of tar files, which are in memory, in all at most `most` of these.

    A shard that cannot be read, or from there on, is left out: it is reported when it is predicted.
    """
    chosen = spread(shards, _SAMPLED)
    for shard in chosen:
        with suppress(CompoundNetError):
            images = shard.images()
            yield from islice(images, max(1, most // len(chosen))) if shard.kind == "tar" else images


def predict_shards(
    predictor: Predictor,
    shards: Sequence[ImageShard],
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    each: Callable[[Prediction | Failure], object] = ignore,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> ShardCounts:
    """Predict shards, and write a Parquet file for each, FOLDER/SHARD.parquet, with the rows of `prediction_columns`.

    A part appears when its last image is predicted. A process that is killed loses the shard it was at; with `resume`
    the next one skips the shards whose parts are there. Several processes may write into one folder, each its shards.

    Args:
        predictor: The model.
        shards: The shards of this process.
        folder: The folder of the parts.
        resume: Whether to go on in a folder that holds parts of these shards.
        each: Called with each prediction, and with each image that could not be read.
        progress: Called with 1 for each shard that is done.
        notify: Called with a line for each shard that could not be read, or has changed since its part was written.

    Raises:
        CompoundNetError: pyarrow is missing; the folder holds parts of another model or other settings, or of these
            shards without `resume`; or it cannot be written.
    """
    need("pyarrow", "writing Parquet files")
    target = Path(folder)
    parts = {shard.name: target / f"{shard.name}.parquet" for shard in shards}
    there = [name for name, part in parts.items() if part.exists()]
    if there and not resume:
        raise CompoundNetError(
            f"{target} holds predictions of {len(there)} of these shards already ({there[0]}): go on with --resume, or"
            " give another folder"
        )
    settings = run_settings(predictor)
    _check_settings(settings, make_folder(target))
    written = kept = failed = images = failures = 0
    start = time.monotonic()
    for shard in shards:
        try:
            found = shard.fingerprint()
            if parts[shard.name].exists():
                if parquet_metadata(parts[shard.name]).get(PART_KEY) == found:
                    kept += 1
                    progress(1)
                    continue
                notify(f"{shard.path}: has changed since it was predicted, and is predicted again")
            counted = _write_part(predictor, shard, parts[shard.name], found, each, notify)
        except ShardError as error:
            notify(f"error: {error}; no part is written for it")
            failed += 1
        else:
            written += 1
            images += counted[0]
            failures += counted[1]
        progress(1)
    return ShardCounts(written, kept, failed, images, failures, time.monotonic() - start)


def _write_part(
    predictor: Predictor,
    shard: ImageShard,
    part: Path,
    fingerprint: str,
    each: Callable[[Prediction | Failure], object],
    notify: Notify,
) -> tuple[int, int]:
    """Return the number of images, and of those that could not be read."""
    images = failures = 0
    items = shard.images(allow_truncated=predictor.allow_truncated, notify=notify)
    with parquet_file(part, prediction_columns(predictor.top), {PART_KEY: fingerprint}) as write:
        for result in predictor.many(items):
            images += 1
            failures += isinstance(result, Failure)
            write(prediction_row(result, predictor.top))
            each(result)
    return images, failures


def run_settings(predictor: Predictor) -> RunSettings:
    """Return the settings of a predictor that its results depend on."""
    model = predictor.model
    return RunSettings(
        model.name,
        dict(predictor.session.identity or {}),
        predictor.session.precision,
        predictor.preprocess.dumps(),
        model.postprocess.dumps(),
        hashlib.sha256(msgspec.json.encode(model.labels)).hexdigest(),
        predictor.top,
        predictor.unknown_below,
        predictor.allow_truncated,
    )


def _check_settings(settings: RunSettings, folder: Path) -> None:
    """Write predictions.json, or compare with the one that is there; the first of several processes writes it."""
    file = folder / RUN_FILE
    if not file.exists():
        with scratch_folder(file) as scratch:
            made = scratch / RUN_FILE
            made.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
            try:
                os.link(made, file)
            except FileExistsError:  # another process was faster
                pass
            except OSError:  # a file system without links
                made.replace(file)
    try:
        found = msgspec.json.decode(read_file(file, limits.METADATA_BYTES), type=RunSettings)
    except msgspec.DecodeError as error:
        raise CompoundNetError(f"{file}: is not a record of predictions: {error}") from error
    differing = [name for name in RunSettings.__struct_fields__ if getattr(found, name) != getattr(settings, name)]
    if differing:
        name = differing[0]
        now, then = (str(getattr(one, name)).strip() for one in (settings, found))
        values = f": {then}, now {now}" if len(then) + len(now) < 80 and "\n" not in then + now else ""
        raise CompoundNetError(
            f"{folder} holds predictions that differ in {name.replace('_', ' ')}{values}; give the same, or another"
            " folder"
        )
