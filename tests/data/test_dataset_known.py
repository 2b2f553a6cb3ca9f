"""The named data sets in miniature: each layout as its archives unpack, with a few images."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_images import write_classes, write_image
from torchvision import datasets as torchvision_datasets

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import UNKNOWN, Dataset, Split
from compoundnet.data.lookup import open_dataset
from compoundnet.models.labels import label_set


def opened(name: str, root: Path) -> Dataset:
    return open_dataset(f"{name}:{root}", allow_missing=True)


def listed(split: Split) -> list[tuple[str, str]]:
    return [(split.image_name(index), split.classes[label]) for index, label in enumerate(split.labels)]


def write_pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    lists = {"trainval": ["Abyssinian_1 1 1 1", "beagle_2 2 2 1"], "test": ["Abyssinian_3 1 1 1", "beagle_4 2 2 1"]}
    for name, lines in lists.items():
        (base / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            write_image(base / "images" / f"{line.split()[0]}.jpg")


def test_pets(tmp_path: Path) -> None:
    write_pets(tmp_path)
    dataset = opened("oxford-iiit-pets", tmp_path)
    assert listed(dataset.split("test")) == [
        ("oxford-iiit-pet/images/Abyssinian_3.jpg", "Abyssinian"),
        ("oxford-iiit-pet/images/beagle_4.jpg", "Beagle"),
    ]
    assert dataset.metric == "mean_per_class"
    assert isinstance(dataset.split("train").read(1), bytes)


def test_other_counts_than_published_are_an_error_that_names_both(tmp_path: Path) -> None:
    write_pets(tmp_path)
    message = r"2 classes, published are 37; 2 train images, .* 3,680; 2 test images, published are 3,669 \(the paper"
    with pytest.raises(CompoundNetError, match=message):
        open_dataset(f"oxford-iiit-pets:{tmp_path}")
    assert "published are 3,669" in opened("oxford-iiit-pets", tmp_path).notes[0]


def test_food(tmp_path: Path) -> None:
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        lists = {name: [f"{name}/{number}" for number in numbers] for name in ("apple_pie", "waffles")}
        (base / "meta" / f"{split}.json").write_text(json.dumps(lists))
        for paths in lists.values():
            for path in paths:
                write_image(base / "images" / f"{path}.jpg")
    dataset = opened("food101", tmp_path)
    assert listed(dataset.split("test")) == [
        ("food-101/images/apple_pie/3.jpg", "apple_pie"),
        ("food-101/images/waffles/3.jpg", "waffles"),
    ]
    assert len(dataset.split("train")) == 4


def test_aircraft_trains_on_training_and_validation(tmp_path: Path) -> None:
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    data.mkdir(parents=True)
    (data / "variants.txt").write_text("707-320\nA300B4\n")
    (data / "images_variant_trainval.txt").write_text("0000001 A300B4\n0000002 707-320\n")
    (data / "images_variant_test.txt").write_text("0000003 707-320\n")
    for number in (1, 2, 3):
        write_image(data / "images" / f"{number:07d}.jpg")
    dataset = opened("fgvc-aircraft", tmp_path)
    assert [name for _, name in listed(dataset.split("train"))] == ["A300B4", "707-320"]
    assert listed(dataset.split("test")) == [("fgvc-aircraft-2013b/data/images/0000003.jpg", "707-320")]


def test_cars(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    base = tmp_path / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["AM General Hummer", "Audi A5"], object)})
    fields: Any = [("fname", object), ("class", int)]
    for path, name in (
        ("devkit/cars_train_annos.mat", "cars_train"),
        ("cars_test_annos_withlabels.mat", "cars_test"),
    ):
        rows = np.array([("00001.jpg", 2), ("00002.jpg", 1)], fields)
        savemat(base / path, {"annotations": rows})
        for number in (1, 2):
            write_image(base / name / f"{number:05d}.jpg")
    dataset = opened("stanford-cars", tmp_path)
    assert listed(dataset.split("test")) == [
        ("stanford_cars/cars_test/00001.jpg", "Audi A5"),
        ("stanford_cars/cars_test/00002.jpg", "AM General Hummer"),
    ]


def test_flowers_train_on_training_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    base = tmp_path / "flowers-102"
    for number in range(1, 8):
        write_image(base / "jpg" / f"image_{number:05d}.jpg")
    savemat(base / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6, 7]]})
    savemat(base / "imagelabels.mat", {"labels": [[1, 2, 3, 4, 5, 6, 102]]})
    # The real lists' checksums are torchvision's to check.
    monkeypatch.setattr(torchvision_datasets.Flowers102, "_check_integrity", lambda self: True)
    dataset = opened("flowers", tmp_path)
    assert dataset.split("train").labels.tolist() == [0, 1, 2, 3]
    assert dataset.split("test").labels.tolist() == [4, 5, 101]
    assert dataset.split("train").image_name(2) == "flowers-102/jpg/image_00003.jpg"


def test_cifar_is_kept_as_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        batch = {"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072), "labels": [3, 9]}
        (base / name).write_bytes(pickle.dumps(batch))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    dataset = opened("cifar10", tmp_path)
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (10, 2)
    image = dataset.split("test").read(1)
    assert isinstance(image, np.ndarray)
    assert image.shape == (32, 32, 3)
    assert dataset.split("test").image_name(1) == "cifar10/test/00001"


def write_birdsnap(root: Path, present: tuple[int, ...]) -> None:
    species = [
        "id\tcommon\tscientific\tdir",
        "2\tBlue Jay\tC. cristata\tBlue_Jay",
        "1\tArctic Tern\tS. p.\tArctic_Tern",
    ]
    (root / "species.txt").write_text("\n".join(species) + "\n")
    folders = {1: "Arctic_Tern", 2: "Blue_Jay"}
    rows = [f"http://x/{n}\tmd5\t{folders[1 + n % 2]}/{n}.jpg\t{1 + n % 2}\t0" for n in range(6)]
    (root / "images.txt").write_text("\n".join(["url\tmd5\tpath\tspecies_id\tbb_x1", *rows]) + "\n")
    (root / "test_images.txt").write_text("path\nArctic_Tern/4.jpg\nBlue_Jay/5.jpg\n")
    for number in present:
        write_image(root / "images" / folders[1 + number % 2] / f"{number}.jpg")


def test_birdsnap_reads_what_is_there_and_counts_the_rest(tmp_path: Path) -> None:
    write_birdsnap(tmp_path, present=(0, 1, 2, 5))
    with pytest.raises(CompoundNetError, match="1 test images, published are 2,443"):
        open_dataset(f"birdsnap:{tmp_path}")
    dataset = opened("birdsnap", tmp_path)
    assert dataset.classes == ("Arctic Tern", "Blue Jay")
    assert [name for name, _ in listed(dataset.split("train"))] == [
        "Arctic_Tern/0.jpg",
        "Blue_Jay/1.jpg",
        "Arctic_Tern/2.jpg",
    ]
    assert listed(dataset.split("test")) == [("Blue_Jay/5.jpg", "Blue Jay")]
    assert "3 train images, published are 47,386" in dataset.notes[0]


def test_birdsnap_without_its_lists_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"no species\.txt.*get_birdsnap\.py"):
        open_dataset(f"birdsnap:{tmp_path}")


def test_imagenet_of_1000_synsets_has_the_models_labels(tmp_path: Path) -> None:
    for number in range(1000):
        for split in ("train", "val"):
            folder = tmp_path / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / f"{number}.JPEG").touch()  # nothing opens them
    dataset = opened("imagenet", tmp_path)
    assert dataset.classes == label_set("imagenet-1k")
    assert dataset.split("val").labels.tolist() == list(range(1000))
    assert dataset.evaluation == "val"


def test_imagenet_of_other_folders_keeps_their_names(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 1, ("n1", "n2"))
    write_classes(tmp_path / "val", 1, ("n1", "n2"))
    assert opened("imagenet", tmp_path).classes == ("n1", "n2")


def test_imagenet_test_images_are_in_the_servers_order_and_have_no_labels(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_image(tmp_path / "test" / f"ILSVRC2012_test_{number:08d}.JPEG")
    test = opened("imagenet-test", tmp_path).split("test")
    assert [test.image_name(index)[-13:] for index in range(3)] == ["00000001.JPEG", "00000002.JPEG", "00000010.JPEG"]
    assert test.labels.tolist() == [UNKNOWN] * 3
    assert len(test.classes) == 1000
    assert test.counts().sum() == 0
