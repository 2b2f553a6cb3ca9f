from __future__ import annotations

import io
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import simplejpeg  # type: ignore[import-untyped]  # has no types
import torch
from PIL import Image
from sample_images import write_classes, write_image
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.base.images import Encoded, Reading, read_image
from compoundnet.data.augment import AutoAugment
from compoundnet.data.loader import loader, normalise
from compoundnet.data.lookup import open_dataset
from compoundnet.data.pixels import augmented_pixels, cropped_pixels
from compoundnet.data.randomness import image_random
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.data.workers import Batch
from compoundnet.models import Preprocess

TRAINING = TrainingTransform(16, augment=AutoAugment())
# The image as it is: what is left is decoding and resizing.
WHOLE = TrainingTransform(32, area=(1, 1), aspect=(4 / 3, 4 / 3), flip=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "train", 13)
    write_classes(tmp_path / "test", 7, suffix=".png")
    return tmp_path


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other) for pair in zip(first, second, strict=True) for one, other in zip(*pair, strict=True)
    )


def training_pixels(content: Encoded, how: TrainingTransform, random: np.random.Generator) -> torch.Tensor:
    """What training makes of an image, as uint8[3, size, size]."""
    return augmented_pixels(cropped_pixels(content, how, random), (how.augment, how.jitter), random)


def test_workers_and_resuming_change_nothing(folder: Path) -> None:
    """Bit for bit, in any epoch, with no worker, one or two, and from the middle of an epoch."""
    split = open_dataset(folder).split("train")
    here = loader(split, TRAINING, batch=4, seed=3)
    expected = [list(here.at(epoch)) for epoch in range(2)]
    assert not torch.equal(expected[0][0].images, expected[1][0].images)
    for workers in (1, 2):
        there = loader(split, TRAINING, batch=4, seed=3, workers=workers)
        for epoch in range(2):
            assert same([Batch(*map(torch.clone, batch)) for batch in there.at(epoch)], expected[epoch])
        interrupted = iter(there.at(0))
        next(interrupted)
        assert same([Batch(*map(torch.clone, batch)) for batch in there.at(1, start_batch=2)], expected[1][2:])
    assert len(here.at(1, start_batch=2)) == len(expected[1]) - 2


def test_a_training_batch_is_uint8_with_channels_last(folder: Path) -> None:
    split = open_dataset(folder).split("train")
    batch = next(iter(loader(split, TRAINING, batch=5)))
    assert (batch.images.dtype, tuple(batch.images.shape)) == (torch.uint8, (5, 3, 16, 16))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.tolist() == split.labels[batch.indices.numpy()].tolist()


def test_evaluation_gives_what_prediction_computes_in_order_and_each_once(folder: Path) -> None:
    split = open_dataset(folder).split("test")
    how = Preprocess.authors(24)
    batches = [batch for rank in range(3) for batch in loader(split, how, batch=3, rank=rank, world=3, workers=rank)]
    indices = torch.cat([batch.indices for batch in batches]).tolist()
    assert sorted(indices) == list(range(14))
    images = torch.cat([batch.images for batch in batches])
    for place, index in enumerate(indices):
        expected = how.pixels(folder / "test" / split.image_name(index))
        assert np.array_equal(images[place].numpy(), expected)


def test_normalise_is_preprocessings_arithmetic() -> None:
    how = Preprocess.authors_lite(8)
    pixels = torch.arange(0, 192, dtype=torch.uint8).view(1, 8, 8, 3).repeat(3, 1, 1, 1).permute(0, 3, 1, 2)
    expected = (pixels.double() / 255 - 127 / 255) / (128 / 255)
    result = normalise(pixels, how)
    assert torch.allclose(result.double(), expected, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert normalise(result, how) is result


def test_a_bad_image_is_named_and_its_place_is_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "train/cat/4.jpg").write_bytes(b"not an image")
    split = open_dataset(folder).split("train")
    for workers in (0, 1):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            batches = list(loader(split, TRAINING, batch=13, workers=workers, max_bad=1))
        assert [len(batch.images) for batch in batches] == [13, 13]
        assert [record.getMessage() for record in caplog.records] == [
            "cat/4.jpg: is not an image in a format that can be read; skipped (1 of at most 1)"
        ]
        seen = torch.cat([batch.indices for batch in batches]).tolist()
        bad = names_of(split).index("cat/4.jpg")
        assert sorted(seen) == sorted([*range(bad), bad + 1, *range(bad + 1, 26)])


def test_too_many_bad_images_stop_training(folder: Path) -> None:
    for number in (2, 8):
        (folder / f"train/dog/{number}.jpg").write_bytes(b"")
    split = open_dataset(folder).split("train")
    with pytest.raises(CompoundNetError, match=r"more than 1 images cannot be read: dog/[28]\.jpg.*data check"):
        list(loader(split, TRAINING, batch=13, max_bad=1, workers=1))
    with pytest.raises(CompoundNetError, match=r"an image cannot be read: dog/[28]\.jpg"):
        list(loader(split, TRAINING, batch=13))


def test_a_folder_that_has_gone_stops_at_once(folder: Path) -> None:
    split = open_dataset(folder).split("train")
    (folder / "train").rename(folder / "moved")
    with pytest.raises(CompoundNetError, match=r"16 images in a row cannot be read, such as .*No such file"):
        list(loader(split, TRAINING, batch=13, max_bad=100))


@pytest.mark.parametrize("workers", [0, 1])
def test_neighbours_that_are_damaged_are_tolerated_up_to_the_limit(folder: Path, workers: int) -> None:
    split = open_dataset(folder).split("train")
    for name in names_of(split)[:20]:
        (folder / "train" / name).write_bytes(b"not an image")
    (batch,) = loader(split, TRAINING, batch=26, workers=workers, max_bad=20)
    assert len(batch.indices) == 26 and set(batch.indices.tolist()) == set(range(20, 26))
    with pytest.raises(CompoundNetError, match="more than 19 images cannot be read"):
        list(loader(split, TRAINING, batch=26, workers=workers, max_bad=19))


def test_no_image_at_all_is_an_error_however_many_are_tolerated(folder: Path) -> None:
    split = open_dataset(folder).split("train")
    for path in (folder / "train").rglob("*.jpg"):
        path.write_bytes(b"not an image")
    with pytest.raises(CompoundNetError, match=r"^26 images in a row cannot be read, such as "):
        list(loader(split, TRAINING, batch=13, max_bad=100))


def test_evaluation_never_skips(folder: Path) -> None:
    split = open_dataset(folder).split("test")
    with pytest.raises(ValueError, match="evaluation must count every image"):
        loader(split, Preprocess.authors(16), batch=2, max_bad=1)
    (folder / "test/dog/0.png").write_bytes(b"")
    with pytest.raises(CompoundNetError, match=r"dog/0\.png"):
        list(loader(split, Preprocess.authors(16), batch=2))


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_leaves_out_what_it_is_told_to(folder: Path, workers: int) -> None:
    names = names_of(open_dataset(folder).split("test"))
    for name in (names[2], names[3], names[5]):
        (folder / "test" / name).write_bytes(b"")
    split, how, left_out = open_dataset(folder).split("test"), Preprocess.authors(16), list[str]()
    batches = list(loader(split, how, batch=2, workers=workers, left_out=left_out.append))
    assert left_out == [f"{name}: is empty" for name in (names[2], names[3], names[5])]
    assert [batch.indices.tolist() for batch in batches[:3]] == [[0, 1], [], [4]]
    assert torch.cat([batch.indices for batch in batches]).tolist() == [
        index for index in range(len(names)) if index not in (2, 3, 5)
    ]
    for batch in batches:
        assert len(batch.images) == len(batch.labels) == len(batch.indices)
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            assert np.array_equal(image.numpy(), how.pixels(folder / "test" / names[index]))


def encoded(image: Image.Image, kind: str = "jpeg", **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def photo(folder: Path, size: tuple[int, int]) -> Image.Image:
    return read_image(write_image(folder / "photo.png", size=size))


def difference(first: torch.Tensor, image: Image.Image) -> float:
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), np.float64)
    return float(np.abs(first.permute(1, 2, 0).numpy() - expected).mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_are_read_as_pil_reads_them(tmp_path: Path, mode: str) -> None:
    content = encoded(photo(tmp_path, (80, 60)).convert(mode), quality=95)
    pixels = training_pixels(content, WHOLE, image_random(0, 0, 0))
    (tmp_path / "photo.jpg").write_bytes(content)
    assert difference(pixels, read_image(tmp_path / "photo.jpg")) < 0.3


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_the_fast_decoder_gives_pils_pixels(tmp_path: Path, options: dict[str, Any]) -> None:
    content = encoded(photo(tmp_path, (83, 61)), **options)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image).astype(int)
    assert np.abs(simplejpeg.decode_jpeg(content) - expected).max() <= 1


def test_a_turned_jpeg_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photo(tmp_path, (60, 80))
    content = encoded(image, exif=exif, quality=95)
    (tmp_path / "turned.jpg").write_bytes(content)
    upright = read_image(tmp_path / "turned.jpg")
    assert upright.size == (80, 60)
    assert difference(training_pixels(content, WHOLE, image_random(0, 0, 0)), upright) < 0.3


def test_damaged_exif_data_does_not_stand_in_the_way(tmp_path: Path) -> None:
    image = photo(tmp_path, (80, 60))
    content = encoded(image, exif=b"Exif\x00\x00no TIFF header", quality=95)
    (tmp_path / "damaged.jpg").write_bytes(content)
    assert read_image(tmp_path / "damaged.jpg").size == (80, 60)
    assert training_pixels(content, WHOLE, image_random(0, 0, 0)).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(640, 480), (1000, 750), (2000, 1500)])
def test_a_large_jpeg_decoded_smaller_differs_little(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photo(tmp_path, size)
    content = encoded(image, quality=95)
    assert difference(training_pixels(content, WHOLE, image_random(0, 0, 0)), image) < 1.5


def test_a_truncated_jpeg_is_a_bad_image(tmp_path: Path) -> None:
    content = encoded(photo(tmp_path, (200, 150)), quality=95)
    with pytest.raises((OSError, SyntaxError)):
        training_pixels(content[: len(content) // 2], WHOLE, image_random(0, 0, 0))


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(photo(tmp_path, (200, 150)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(Image.DecompressionBombError):
        training_pixels(content, WHOLE, image_random(0, 0, 0))


def test_flips_are_half(folder: Path) -> None:
    split = open_dataset(folder).split("train")
    whole = TrainingTransform(16, area=(1, 1), aspect=(4 / 3, 4 / 3))
    content = split.read(0)
    drawn = {
        bytes(training_pixels(content, whole, image_random(0, 0, index)).contiguous().numpy().tobytes()): index
        for index in range(64)
    }
    assert len(drawn) == 2


def test_digits_are_batches_like_any_other() -> None:
    split = open_dataset("digits").split("train")
    batch = next(iter(loader(split, TrainingTransform(32, flip=False), batch=8)))
    assert batch.images.shape == (8, 3, 32, 32)
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])


def test_a_process_that_still_holds_its_workers_ends(folder: Path) -> None:
    """The workers heed their parent alone: not SLURM, which tells all processes of a run to end, but its own exit."""
    script = (
        "import os, signal, subprocess, sys; from pathlib import Path\n"
        "from compoundnet.data.loader import loader; from compoundnet.data.lookup import open_dataset\n"
        "from compoundnet.data.training_transform import TrainingTransform\n"
        "batches = loader(open_dataset(Path(sys.argv[1])).split('train'), TrainingTransform(16), batch=2, workers=1)\n"
        "kept = iter(batches); next(kept)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.run(['kill', '--', f'-{os.getpid()}'])\n"
        "print(len([batches, *kept]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True, text=True, timeout=120, check=False, start_new_session=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "13\n", "")


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_images_are_used_and_counted_where_that_is_allowed(
    folder: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(12):
        path = write_image(folder / "train" / "cat" / f"{number}.jpg", number, size=(200, 150))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 3 // 4])
    dataset = open_dataset(folder, test_fraction=0)
    taking = dataset.read_with(Reading(allow_truncated=True)).split("train")
    for how in (TRAINING, Preprocess.authors(16)):
        caplog.clear()
        batches = loader(taking, how, batch=len(taking), workers=workers, drop_last=False)
        for epoch in range(2):
            assert sum(len(batch.images) for batch in batches.at(epoch)) == len(taking)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 11 and lines[0].endswith("; used as far as it can be decoded")
        assert lines[-1].startswith("12 truncated images are used as far as they can be decoded")
    with pytest.raises(CompoundNetError, match=r"image file is truncated.*--allow-truncated"):
        list(loader(dataset.split("train"), TRAINING, batch=4, workers=workers))


def test_one_range_for_all_deep_images_of_a_data_set(tmp_path: Path) -> None:
    for label, level in (("dark", 400), ("light", 4000)):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.fromarray(np.full((8, 8), level + number, np.uint16)).save(tmp_path / label / f"{number}.png")
    dataset = open_dataset(tmp_path, test_fraction=0)
    found = dataset.split("train").find_range()
    assert found is not None and (found.low, found.high, found.guessed) == (0, 4095, True)
    split = dataset.read_with(Reading((found.low, found.high))).split("train")
    for batch in (
        next(iter(loader(split, TrainingTransform(8), batch=6, shuffle=False))).images / 255,
        next(iter(loader(split, Preprocess(8, 1.0, mean=(0,), std=(1,)), batch=6))).images,
    ):
        assert batch.mean(dim=(1, 2, 3)).tolist() == pytest.approx([400 / 4095] * 3 + [4000 / 4095] * 3, abs=0.003)


def test_too_little_shared_memory_decodes_in_this_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split = open_dataset(folder).split("train")
    (expected, *_) = loader(split, WHOLE, batch=4, workers=0)
    monkeypatch.setattr("compoundnet.data.loader._SHARED", folder)  # exists on every system
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1 << 20, 0, 10_000))
    (found, *_) = loader(split, WHOLE, batch=4, workers=2)
    assert torch.equal(found.images, expected.images)
    assert "2 workers need 61.4 kB of shared memory" in caplog.text and "--shm-size" in caplog.text
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1 << 20, 0, 61_440))
    caplog.clear()
    loader(split, WHOLE, batch=4, workers=2)
    assert caplog.text == ""
    # The crops for a teacher need memory too.
    loader(split, msgspec.structs.replace(WHOLE, second=64), batch=4, workers=2)
    assert "2 workers need 307 kB of shared memory" in caplog.text


def test_a_flip_is_a_mirror_image(tmp_path: Path) -> None:
    whole = TrainingTransform(16, area=(1, 1), aspect=(4 / 3, 4 / 3))
    content = encoded(photo(tmp_path, (80, 60)), "png")
    drawn = {
        image.numpy().tobytes(): image
        for image in (training_pixels(content, whole, image_random(0, 0, n)) for n in range(32))
    }
    first, second = drawn.values()
    assert torch.equal(first, second.flip(-1))


@pytest.mark.parametrize("size", [(960, 640), (640, 960)])
def test_a_crop_of_a_jpeg_decoded_smaller_is_at_its_place(tmp_path: Path, size: tuple[int, int]) -> None:
    """A part of an image whose colours say where it is: as from the whole image, but for the softer decoding."""
    how = TrainingTransform(24, area=(0.1, 0.3))
    rows, columns = np.mgrid[: size[1], : size[0]]
    places = np.stack([255 * columns / size[0], 255 * rows / size[1], 128 + 100 * np.sin(columns / 40)], axis=-1)
    image = Image.fromarray(places.astype(np.uint8))
    content, whole = encoded(image, quality=98, subsampling=0), encoded(image, "png")
    for index in range(30):
        found, expected = (training_pixels(one, how, image_random(0, 0, index)) for one in (content, whole))
        # The box is rounded outwards to whole pixels of the smaller image.
        assert (found.double() - expected.double()).abs().mean() < 5


def test_a_padded_crop_lies_where_its_box_says() -> None:
    """Of an image beside which the box has a margin: the colours of the padding are on the sides where that is."""
    how = TrainingTransform(32, area=(0.6, 1.0), fit="pad", flip=False)
    image = encoded(Image.new("RGB", (120, 40), (255, 0, 0)), "png")
    for index in range(40):
        left, top, right, bottom = how.crop(120, 40, image_random(0, 0, index))
        red = cropped_pixels(image, how, image_random(0, 0, index))[0] > 250
        rows, columns = (np.flatnonzero(red.any(axis).numpy()) for axis in (1, 0))
        for found, low, high, start, length in ((rows, top, bottom, 0, 40), (columns, left, right, 0, 120)):
            scale = 32 / (high - low)
            assert found[0] == pytest.approx(max(0, start - low) * scale, abs=1)
            assert found[-1] + 1 == pytest.approx(min(high - low, length - low) * scale, abs=1)
