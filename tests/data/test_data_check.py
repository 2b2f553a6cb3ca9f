"""What `data check` finds, what training does about it, and the exit code; and the other commands on data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import page
from PIL import Image
from sample_images import write_classes, write_image
from typer.testing import CliRunner

from compoundnet.base import CompoundNetError
from compoundnet.base.images import Reading
from compoundnet.cli.data import app
from compoundnet.data import check as check_module
from compoundnet.data import image_facts as facts_module
from compoundnet.data.check import DataCheck, Finding, check_data
from compoundnet.data.copies import Copies, copies_across_splits, exact_copies, near_copies
from compoundnet.data.dataset import Dataset
from compoundnet.data.image_facts import image_facts, perceptual_hash
from compoundnet.data.lookup import open_dataset
from compoundnet.data.shards import write_shards
from compoundnet.train import recipes


def finding(check: DataCheck, kind: str) -> Finding:
    return next(found for found in check.findings if found.kind == kind)


def kinds(check: DataCheck) -> set[str]:
    return {found.kind for found in check.findings}


def patches(path: Path, number: int, size: tuple[int, int] = (24, 18)) -> Path:
    """An image of random patches of colour, like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def whole(folder: Path, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """12 training and 12 test images of two classes, all different."""
    for split_number, split in enumerate(splits):
        for label, name in enumerate(("cat", "dog")):
            for number in range(12):
                patches(folder / split / name / f"{number}.png", 1000 * split_number + 100 * label + number)
    return folder


def broken(folder: Path, empty: int = 0) -> Path:
    """Two training images and a test image that cannot be read, and so many empty training images."""
    write_classes(folder / "train", 4)
    write_classes(folder / "test", 2)
    content = (folder / "train/cat/1.jpg").read_bytes()
    (folder / "train/cat/1.jpg").write_bytes(content[: len(content) - 100])
    (folder / "train/dog/2.jpg").write_bytes(b"<html>not found</html>")
    (folder / "test/dog/0.jpg").write_bytes(b"")
    for number in range(empty):
        (folder / f"train/cat/{100 + number}.jpg").touch()
    return folder


def test_every_bad_image_is_named_with_its_reason(tmp_path: Path) -> None:
    steps: list[int] = []
    check = check_data(open_dataset(broken(tmp_path)), progress=steps.append)
    assert check.trains
    assert [found.level for found in check.findings][:3] == ["warning"] * 3
    assert finding(check, "damaged images").examples[0][0].startswith("train/cat/1.jpg: cannot be decoded: ")
    assert finding(check, "unreadable images").examples == (
        ("train/dog/2.jpg: is a web page, not the file itself: download it again",),
    )
    assert finding(check, "empty files").examples == (("test/dog/0.jpg: is empty",),)
    assert "training leaves out up to 10 unreadable images" in finding(check, "empty files").training
    assert sum(steps) == 12


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_stops_where_more_than_ten_of_a_split_cannot_be_read(tmp_path: Path, split: str) -> None:
    whole(tmp_path)
    for number in range(10):
        (tmp_path / split / f"cat/{number}.png").write_bytes(b"")
    other = "test" if split == "train" else "train"
    (tmp_path / other / "dog/0.png").write_bytes(b"no image")
    check = check_data(open_dataset(tmp_path))
    assert check.trains and finding(check, "empty files").level == "warning"
    (tmp_path / split / "dog/1.png").write_bytes(b"no image")
    check = check_data(open_dataset(tmp_path))
    assert not check.trains
    for kind in ("empty files", "unreadable images"):
        assert finding(check, kind).level == "stop"
        assert "more than 10 images of an epoch" in finding(check, kind).training
        assert "--set max_bad=N" in finding(check, kind).training


def test_ten_is_what_the_included_recipes_tolerate() -> None:
    assert {recipe.max_bad for recipe in recipes().values()} == {check_module._MOST_BAD}


def test_damaged_images_only_warn_where_they_are_allowed(tmp_path: Path) -> None:
    whole(tmp_path)
    content = patches(tmp_path / "train/cat/0.jpg", 0, (300, 300)).read_bytes()
    (tmp_path / "train/cat/0.jpg").write_bytes(content[: len(content) * 2 // 3])
    refused = finding(check_data(open_dataset(tmp_path)), "damaged images")
    assert refused.level == "warning" and "--allow-truncated takes damaged ones" in refused.training
    check = check_data(open_dataset(tmp_path).read_with(Reading(allow_truncated=True)))
    assert "taken as far as they can be decoded" in finding(check, "damaged images").training
    assert (finding(check, "damaged images").level, finding(check, "damaged images").count) == ("warning", 1)


def test_a_good_data_set_has_nothing_to_say(tmp_path: Path) -> None:
    check = check_data(open_dataset(whole(tmp_path)), near=True)
    assert (check.findings, check.trains) == ((), True)
    assert check.sizes_text() == "all 24 x 18 px; 48 PNG; 48 colour"


def test_a_file_that_has_gone_is_a_bad_image(tmp_path: Path) -> None:
    dataset = open_dataset(whole(tmp_path))
    (tmp_path / "test/cat/0.png").unlink()
    check = check_data(dataset)
    assert finding(check, "unreadable images").examples == (
        ("test/cat/0.png: cannot be read: No such file or directory",),
    )


def test_copies_are_counted_by_the_worst_that_they_do(tmp_path: Path) -> None:
    whole(tmp_path)
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "train/dog/x.png")
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "test/cat/y.png")
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "test/cat/z.png")
    shutil.copy(tmp_path / "train/dog/3.png", tmp_path / "train/dog/w.png")
    check = check_data(open_dataset(tmp_path))
    assert kinds(check) == {"copies in two classes", "copies in two splits", "copies"}
    assert finding(check, "copies in two classes").examples == (("train/cat/0.png", "train/dog/x.png"),)
    leak = finding(check, "copies in two splits")
    assert leak.examples == (("train/cat/1.png", "test/cat/y.png", "test/cat/z.png"),)
    assert leak.text == "3 images are copies of each other in two splits or more (1 group)"
    assert "what is measured on test counts images that were trained on" in leak.training
    assert (finding(check, "copies").level, finding(check, "copies").count) == ("note", 2)
    assert check.trains
    cheap = copies_across_splits(open_dataset(tmp_path))
    assert cheap is not None
    assert sorted(len(group.images) for group in cheap) == [2, 3]


def test_groups_of_copies_are_sorted_without_comparing_them(tmp_path: Path) -> None:
    """A data set of a million copies has as many groups: comparing each with each would take days."""

    class Group(Copies, frozen=True, eq=False):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = Copies.__hash__

    dataset = open_dataset(whole(tmp_path))
    pairs = [
        *((("train", number), ("train", 12 + number)) for number in range(3)),  # a cat and a dog
        *((("train", number), ("test", number)) for number in range(3, 7)),
        *((("train", number), ("train", number + 1)) for number in range(7, 11, 2)),
    ]
    found = list(check_module._copies(dataset, [Group(pair) for pair in pairs], near=False))
    assert {one.kind: one.count for one in found} == {
        "copies in two classes": 6, "copies in two splits": 8, "copies": 4,
    }  # fmt: skip


def test_near_copies_bring_their_exact_copies_with_them(tmp_path: Path) -> None:
    whole(tmp_path)
    original = patches(tmp_path / "train/cat/large.png", 7000, (240, 180))
    with Image.open(original) as image:
        image.resize((120, 90)).save(tmp_path / "train/cat/small.png")
    for copied, place in (("large", "train/cat/a"), ("large", "test/cat/b"), ("small", "train/cat/c")):
        shutil.copy(tmp_path / f"train/cat/{copied}.png", tmp_path / f"{place}.png")
    shutil.copy(tmp_path / "train/dog/0.png", tmp_path / "train/dog/other.png")
    dataset = open_dataset(tmp_path)
    facts = image_facts(dataset, near=True)
    (group,) = near_copies(facts, exact_copies(facts))
    assert [f"{split}/{dataset.splits[split].image_name(index)}" for split, index in group.images] == [
        "train/cat/a.png", "train/cat/c.png", "train/cat/large.png", "train/cat/small.png", "test/cat/b.png",
    ]  # fmt: skip


def test_near_copies_are_resized_compressed_brightened_or_turned(tmp_path: Path) -> None:
    whole(tmp_path)
    original = patches(tmp_path / "train/cat/large.png", 7000, (240, 180))
    with Image.open(original) as image:
        image.resize((120, 90)).save(tmp_path / "test/cat/small.png")
        image.save(tmp_path / "test/cat/compressed.jpg", quality=30)
        image.point(lambda value: min(255, int(value * 1.1))).save(tmp_path / "test/cat/bright.png")
        image.convert("L").save(tmp_path / "test/cat/grey.png")
        exif = Image.Exif()
        exif[274] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "test/cat/turned.jpg", exif=exif)
    assert kinds(check_data(open_dataset(tmp_path))) == {"modes"}
    check = check_data(open_dataset(tmp_path), near=True)
    found = finding(check, "near copies in two splits")
    assert (found.count, len(found.examples)) == (6, 1)
    assert set(found.examples[0]) == {
        "train/cat/large.png", "test/cat/small.png", "test/cat/compressed.jpg", "test/cat/bright.png",
        "test/cat/grey.png", "test/cat/turned.jpg",
    }  # fmt: skip


def test_near_copies_of_more_than_8_bits_are_compared_as_training_sees_them(tmp_path: Path) -> None:
    """All values are above 255, so that as 8 bits they would be white."""
    values = np.random.default_rng(0).integers(300, 4096, (20, 6, 8)).astype(np.float32)
    for number, patch in enumerate(values):
        large = np.asarray(Image.fromarray(patch).resize((48, 36), Image.Resampling.BICUBIC)).clip(256, 4095)
        for split, scale in (("train", 1.0), ("test", 0.9))[: 1 + (number == 0)]:
            place = tmp_path / split / ("cat", "dog")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((scale * large).astype(np.uint16)).save(place / f"{number}.png")
    patches(tmp_path / "test/dog/other.png", 1)
    found = finding(check_data(open_dataset(tmp_path), near=True), "near copies in two splits")
    assert (found.count, set(found.examples[0])) == (2, {"train/cat/0.png", "test/cat/0.png"})


def test_images_of_one_colour_are_not_near_copies() -> None:
    black, white = (Image.new("RGB", (40, 40), colour) for colour in ("black", "white"))
    assert not perceptual_hash(black)[1].any() and not perceptual_hash(white)[1].any()


def test_small_and_unequal_classes_are_named(tmp_path: Path) -> None:
    whole(tmp_path)
    for number in range(3):
        write_image(tmp_path / "train/emu" / f"{number}.png", 5000 + number)
    check = check_data(open_dataset(tmp_path))
    assert finding(check, "small classes").text == "1 class has fewer than 10 training images: 'emu'"
    assert finding(check, "unequal classes").text == "'cat' has 12 training images, 'emu' 3"
    assert check.trains


def test_shapes_modes_and_what_is_left_out_are_said(tmp_path: Path) -> None:
    whole(tmp_path)
    write_image(tmp_path / "train/cat/long.png", 50, (200, 50))
    Image.fromarray(np.arange(12 * 12, dtype=np.uint16).reshape(12, 12) * 400).save(tmp_path / "train/cat/deep.png")
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "train/dog/moving.gif", save_all=True, append_images=frames[1:])
    write_image(tmp_path / "more" / "1.png")
    check = check_data(open_dataset(tmp_path))
    assert finding(check, "long images").examples == (("train/cat/long.png: 200 x 50 px",),)
    assert "1 more than 8 bits a value" in finding(check, "modes").text
    assert finding(check, "animated").text == "1 image with several frames"
    assert finding(check, "left out: beside splits").text == "left out: 1 folder beside the splits (more)"
    assert check.formats == {"PNG": 50, "GIF, animated": 1}


def test_data_without_training_images_stops_training(tmp_path: Path) -> None:
    check = check_data(open_dataset(whole(tmp_path, ("test",))))
    assert not check.trains
    assert finding(check, "no training images").training == "this data can be evaluated on, not trained on"


def test_other_sources_are_checked_too(tmp_path: Path) -> None:
    digits = check_data(open_dataset("digits"))
    assert digits.sizes_text() == "all 8 x 8 px; 1,797 pixels; 1,797 grey"
    write_shards(open_dataset(whole(tmp_path / "pets")), tmp_path / "shards")
    assert check_data(open_dataset(tmp_path / "shards")).findings == ()


def same(first: Dataset, workers: int) -> list[bytes]:
    found = image_facts(first, near=True, workers=workers)
    return [
        values.tobytes()
        for of in found.values()
        for values in (of.width, of.height, of.digest, of.hash, of.thumb)
        if values is not None
    ]


def test_processes_find_what_threads_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(broken(tmp_path))
    expected, bad = same(dataset, workers=1), image_facts(dataset, workers=1)["train"].bad
    monkeypatch.setattr(facts_module, "_MANY", 1)
    monkeypatch.setattr(facts_module, "_CHUNK", 3)
    assert same(dataset, workers=2) == expected
    assert image_facts(dataset, workers=2)["train"].bad == bad


def test_the_command_fails_where_training_would_stop(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(broken(tmp_path, empty=9)), "--json"])
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["trains"], document["images"], document["near"]) == (False, 21, False)
    assert document["understanding"]["layout"] == "SPLIT/CLASS"
    assert {found["kind"]: found["level"] for found in document["findings"]}["empty files"] == "stop"
    shown = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert shown.exit_code == 1
    assert "error: 10 images have no bytes: training stops if more than 10 images" in shown.stdout
    assert "Training would stop: 3 errors" in shown.stdout


def test_the_command_says_what_was_understood_and_ends_well_with_warnings(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(write_classes(tmp_path))])
    assert result.exit_code == 0
    assert "There is no test split, so 2 of 10 images were held out for it" in result.stdout
    assert "Images: all 24 x 18 px; 10 JPEG; 10 colour.\n" in result.stdout
    assert "warning: 2 classes have fewer than 10 training images: 'cat', 'dog'" in result.stdout
    assert "Training would run: 0 errors, 1 warning.\n" in result.stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_shows_the_images_and_fits_any_window(tmp_path: Path, width: int) -> None:
    broken(tmp_path / "pets <&>", empty=9)
    shutil.copy(tmp_path / "pets <&>/train/cat/0.jpg", tmp_path / "pets <&>/test/dog/copy.jpg")
    report = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["check", str(tmp_path / "pets <&>"), "-o", str(report)])
    assert result.exit_code == 1 and f"wrote {report}" in result.stderr
    with page(width, 900) as watched:
        watched.page.goto(report.as_uri())
        assert watched.page.title() == "pets <&>: data check"
        assert "Training would stop" in watched.page.inner_text("#summary")
        assert watched.page.locator(".group img").count() >= 2
        assert (watched.errors, watched.overflow()) == ([], 0)
        assert watched.broken_pictures() == [] and watched.broken_links() == []


def test_a_bar_has_the_colour_of_its_split_and_fits_a_phone(tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    rows = [("cat", "train"), ("cat", "val"), ("dog", "train"), ("dog", "test")]
    lines = [
        f"{folder}/{row}.jpg,{label},{split}" for row, (label, split) in enumerate(rows) for folder in ("cat", "dog")
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    report = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["check", str(tmp_path / "list.csv"), "-o", str(report)])
    assert result.exit_code == 0, result.output
    with page(390, 900) as watched:
        watched.page.goto(report.as_uri())
        colour = "node => getComputedStyle(node).backgroundColor"
        train, val, test = (watched.page.locator(".key").nth(number).evaluate(colour) for number in (0, 1, 2))
        bars = watched.page.locator(".bars tbody tr").evaluate_all(
            f"rows => rows.map(row => [...row.querySelectorAll('.bar')].map({colour}))"
        )
        assert len({train, val, test}) == 3
        assert bars == [[train, val], [train, test]]
        assert watched.page.locator(".scroll").first.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_names_that_no_terminal_shows_are_replaced(tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    shutil.copytree(tmp_path / "cat", tmp_path / "caf\udce9")  # Latin-1 on disk
    (tmp_path / "dog" / "0.jpg").rename(tmp_path / "dog" / "\x1b[31mred.jpg")
    shutil.copy(tmp_path / "dog" / "\x1b[31mred.jpg", tmp_path / "dog" / "copy.jpg")
    report = tmp_path / "report.html"
    for command in (["check", str(tmp_path), "-o", str(report)], ["describe", str(tmp_path)]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0
        assert "caf\ufffd" in result.stdout and "\x1b" not in result.stdout
    assert b"caf?" in report.read_bytes()
    assert (
        json.loads(CliRunner().invoke(app, ["describe", str(tmp_path), "--json"]).stdout)["classes"][0] == "caf\udce9"
    )


def test_a_report_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    result = CliRunner().invoke(app, ["check", "digits", "-o", str(tmp_path / "none" / "r.html")])
    assert result.exit_code == 1 and "none is not a folder" in str(result.exception)


def test_list_and_describe_show_the_catalogue() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in listed][:3] == ["digits", "cifar10", "cifar100"]
    assert "Birdsnap" in CliRunner().invoke(app, ["list"]).stdout
    described = CliRunner().invoke(app, ["describe", "oxford-iiit-pets"]).stdout
    assert "3,669 images (the paper prints 3,369)" in described
    assert json.loads(CliRunner().invoke(app, ["describe", "flowers", "--json"]).stdout)["metric"] == "mean_per_class"


def test_describe_counts_a_folder(tmp_path: Path) -> None:
    document = json.loads(CliRunner().invoke(app, ["describe", str(write_classes(tmp_path)), "--json"]).stdout)
    assert document["splits"]["train"] == {"count": 8, "per_class": [4, 4]}
    assert "2 classes: cat, dog" in CliRunner().invoke(app, ["describe", str(tmp_path)]).stdout


def test_describe_of_nothing_known_suggests() -> None:
    result = CliRunner().invoke(app, ["describe", "food-101"])
    with pytest.raises(CompoundNetError, match="did you mean food101"):
        raise result.exception or AssertionError


def test_shard_writes_a_folder_that_opens(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets")
    result = CliRunner().invoke(app, ["shard", str(tmp_path / "pets"), "-o", str(tmp_path / "shards")])
    assert "2 shards" in result.stderr
    assert len(open_dataset(tmp_path / "shards").split("train")) == 8
