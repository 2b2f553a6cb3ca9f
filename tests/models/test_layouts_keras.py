"""Layout `keras`: files that Keras 2 and 3 wrote give Keras' logits, and what we write is what Keras writes."""

from __future__ import annotations

import hashlib
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from fixture_network import FIXTURES, check_close, logits, tiny_network

from compoundnet.arch import Network, SeparableConv, Stage, Stem, network
from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess, keras_files
from compoundnet.models.keras_files import published_md5, read_keras, write_keras
from compoundnet.models.layouts import from_layout, layout

KERAS = FIXTURES / "keras"
LAYOUT = layout("keras")
FORMS = ("keras2.h5", "keras2.keras", "keras3.h5", "keras3.keras", "keras3.weights.h5", "unnamed.weights.h5")
EXPECTED = np.load(KERAS / "expected.npz")


def normalised(images: Any, preprocess: Preprocess) -> Any:
    return (images / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)


def features(path: Path, network: Network) -> Any:
    """Of the fixture's images with pixels from 0 to 255, by way of the preprocessing that the file asks for."""
    weights = read_keras(path, network)
    converted, state = from_layout(weights.state, network, LAYOUT)
    return logits(converted, state, normalised(EXPECTED["images"], weights.preprocess))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", ["", "other_"])  # 45 and 50 px: each convolution with stride 2 pads odd and even sides
def test_each_form_gives_keras_logits_of_raw_images(form: str, size: str) -> None:
    # What the file does not have of its own: the library's padding and norm must come from the layout.
    asked = tiny_network(num_classes=1000).replace(padding="symmetric", norm=network("mobilenet-v2").norm)
    weights = read_keras(KERAS / form, asked)
    converted, state = from_layout(weights.state, asked, LAYOUT)
    assert (converted.padding, converted.norm.eps, converted.num_classes) == ("same", 1e-3, 5)
    images = normalised(EXPECTED[f"{size}images"], weights.preprocess)
    check_close(logits(converted, state, images), EXPECTED[f"{size}logits"])


def test_keras_2_13_calls_the_layers_by_another_name(tmp_path: Path) -> None:
    """Keras 3 reads such files too (saving_lib.py, "2.13 compatibility")."""
    path = tmp_path / "older.h5"
    path.write_bytes((KERAS / "unnamed.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    found, expected = read_keras(path, tiny_network()), read_keras(KERAS / "unnamed.weights.h5", tiny_network())
    assert found.preprocess == expected.preprocess
    assert found.state.keys() == expected.state.keys()
    assert all(found.state[name].equal(tensor) for name, tensor in expected.state.items())


def test_crop_and_interpolation_are_the_authors() -> None:
    preprocess = read_keras(KERAS / "keras3.h5", tiny_network()).preprocess
    assert (preprocess.size, preprocess.crop, preprocess.interpolation) == (45, 45 / 77, "bicubic")


def test_a_model_without_the_second_rescaling_divides_by_the_root_of_its_variance() -> None:
    """Keras before 2.10, and any Keras where the published file was given by path (tensorflow/tensorflow#49930)."""
    check_close(features(KERAS / "published_notop.h5", tiny_network(num_classes=0)), EXPECTED["published"])


def test_a_model_with_the_second_rescaling_divides_by_it_too() -> None:
    path = KERAS / "corrected_notop.weights.h5"
    check_close(features(path, tiny_network(num_classes=0)), EXPECTED["corrected"])
    assert read_keras(path, tiny_network()).preprocess.std == pytest.approx((0.229, 0.224, 0.225))


def test_a_published_file_is_read_as_weights_imagenet_does(monkeypatch: pytest.MonkeyPatch) -> None:
    path = KERAS / "published_notop.h5"
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(keras_files, "published_md5", lambda: frozenset({digest}))
    check_close(features(path, tiny_network(num_classes=0)), EXPECTED["corrected"])


def test_the_published_files_are_those_of_b0_to_b7_with_and_without_a_classifier() -> None:
    assert len(published_md5()) == 16
    assert "902e53a9f72be733fc0bcb005b3ebbac" in published_md5()  # efficientnetb0.h5


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7", "efficientnet-l2", "efficientnet-lite4"])
def test_every_tensor_has_a_name_of_its_own(name: str) -> None:
    pairs = LAYOUT.pairs(LAYOUT.adapt(network(name)))
    assert len({pair.theirs for pair in pairs}) == len({pair.ours for pair in pairs}) == len(pairs)


# Writing


def contents(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Layers with weights, in the order that Keras loads them by, and every dataset."""
    with h5py.File(path) as file:
        layers = [name.decode() if isinstance(name, bytes) else str(name) for name in file.attrs["layer_names"]]
        weighty = [name for name in layers if len(file[name].attrs["weight_names"])]
        datasets = {
            f"{name}/{weight.decode() if isinstance(weight, bytes) else weight}": None
            for name in weighty
            for weight in file[name].attrs["weight_names"]
        }
        return weighty, {name: np.asarray(file[name]) for name in datasets}


def test_what_is_written_is_what_keras_wrote(tmp_path: Path) -> None:
    weights = read_keras(KERAS / "keras2.h5", tiny_network())
    converted, state = from_layout(weights.state, tiny_network(), LAYOUT)
    write_keras(tmp_path / "ours.h5", converted, state, weights.preprocess)
    (layers, ours), (their_layers, theirs) = contents(tmp_path / "ours.h5"), contents(KERAS / "keras2.h5")
    assert layers == their_layers
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        if name.endswith("variance:0") and "normalization" in name:
            np.testing.assert_allclose(ours[name], array, rtol=1e-6)  # by way of the deviation
        elif not name.endswith("count:0"):  # of images the statistics were taken of: nothing reads it
            np.testing.assert_array_equal(ours[name], array)


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    weights = read_keras(KERAS / "published_notop.h5", tiny_network())
    converted, state = from_layout(weights.state, tiny_network(num_classes=0), LAYOUT)
    grey = Preprocess(size=45, crop=45 / 77, mean=(0.25,), std=(0.5,))
    write_keras(tmp_path / "notop.h5", converted, state, grey)
    back = read_keras(tmp_path / "notop.h5", tiny_network())
    assert (back.preprocess.mean, back.preprocess.std) == ((0.25,) * 3, (0.5,) * 3)
    assert from_layout(back.state, converted, LAYOUT)[1].keys() == state.keys()
    assert all(back.state[name].equal(tensor) for name, tensor in weights.state.items())
    assert [file.name for file in tmp_path.iterdir()] == ["notop.h5"]


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras", "x"])
def test_a_name_that_keras_reads_as_another_form_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"must end in \.h5 alone"):
        write_keras(tmp_path / name, tiny_network(), {}, Preprocess.authors(45))


def separable(network: Network) -> Network:
    return network.replace(stages=(Stage(SeparableConv(), 8),))


def five_by_five_stem(network: Network) -> Network:
    return network.replace(stem=Stem(8, kernel=5))


@pytest.mark.parametrize(
    ("change", "lacks"), [(separable, "SeparableConv"), (five_by_five_stem, "stem other than a 3x3")]
)
def test_a_network_that_keras_lacks_is_refused(change: Callable[[Network], Network], lacks: str) -> None:
    with pytest.raises(CompoundNetError, match=f"keras.applications has no {lacks}"):
        LAYOUT.pairs(change(tiny_network()))


# Files that are not what they should be


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(form: str, share: float, tmp_path: Path) -> None:
    whole = (KERAS / form).read_bytes()
    (tmp_path / form).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CompoundNetError, match="truncated or damaged"):
        read_keras(tmp_path / form, tiny_network())


def test_another_network_is_told_by_its_tensors() -> None:
    b0 = network("efficientnet-b0")
    weights = read_keras(KERAS / "keras3.weights.h5", b0)
    with pytest.raises(CompoundNetError, match=r"missing \(.*block2b_.*misshapen"):
        from_layout(weights.state, b0, LAYOUT)


def test_another_network_is_told_by_its_number_of_layers_where_they_have_no_names() -> None:
    with pytest.raises(CompoundNetError, match="it has 17 layers of type conv2d and the network has 65"):
        read_keras(KERAS / "unnamed.weights.h5", network("efficientnet-b0"))


def rewritten(change: Callable[[h5py.File], object], tmp_path: Path) -> Path:
    path = tmp_path / "changed.h5"
    path.write_bytes((KERAS / "keras2.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def without_normalization(file: h5py.File) -> None:
    del file["normalization"]


def no_keras(file: h5py.File) -> None:
    del file.attrs["layer_names"]


def of_text(file: h5py.File) -> None:
    del file["stem_bn/stem_bn/beta:0"]
    file["stem_bn/stem_bn/beta:0"] = np.array([b"x"] * 8)


def in_another_file(file: h5py.File) -> None:
    del file["stem_bn/stem_bn/beta:0"]
    file["stem_bn/stem_bn"].create_dataset("beta:0", (8,), "f4", external=[("elsewhere.bin", 0, 32)])


def of_four_channels(file: h5py.File) -> None:
    for name in ("mean", "variance"):
        del file[f"normalization/normalization/{name}:0"]
        file[f"normalization/normalization/{name}:0"] = np.ones(4, np.float32)


def of_an_endless_size(file: h5py.File) -> None:
    del file["stem_bn/stem_bn/beta:0"]
    file["stem_bn/stem_bn"].create_dataset("beta:0", (2**40,), "f4", chunks=(2**20,))


def of_many_empty_weights(file: h5py.File) -> None:
    """Each is smaller than the file, and nothing is stored of any but one."""
    file["stem_bn/stem_bn/large:0"] = np.zeros(1 << 19, np.float32)
    for number in range(40):
        file["stem_bn/stem_bn"].create_dataset(f"more_{number}:0", (1 << 19,), "f4", chunks=(1 << 19,))


def of_a_chunk_that_unpacks_to_more(file: h5py.File) -> None:
    del file["stem_bn/stem_bn/beta:0"]
    made = file["stem_bn/stem_bn"].create_dataset("beta:0", (8,), "f4", chunks=(8,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 20)))


def compressed_in_another_way(file: h5py.File) -> None:
    del file["stem_bn/stem_bn/beta:0"]
    file["stem_bn/stem_bn"].create_dataset("beta:0", data=np.zeros(8, np.float32), compression="lzf")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_a_chunk_that_unpacks_to_more, "beta:0 unpacks to more than its own size"),
        (compressed_in_another_way, "beta:0 is compressed in another way than gzip"),
        (without_normalization, "no Rescaling and Normalization layers"),
        (no_keras, "without Keras layers in it"),
        (of_text, r"stem_bn/beta:0 holds \|S1 instead of floating-point"),
        (in_another_file, "stem_bn/beta:0 does not lie in the file itself"),
        (of_an_endless_size, r"unpack to more than 67.1 MB, which .*/beta:0 was not read"),
        (of_many_empty_weights, r"unpack to more than 67.1 MB, which .*/more_\d+:0 was not read"),
        (of_four_channels, "not of grey or RGB images"),
    ],
)
def test_content_that_is_no_efficientnet_is_refused(
    change: Callable[[h5py.File], object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(CompoundNetError, match=says):
        read_keras(rewritten(change, tmp_path), tiny_network())


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    def compress(file: h5py.File) -> None:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if getattr(item, "shape", ()) else None)
        for name in names:
            values = file[name][()]
            del file[name]
            file.create_dataset(name, data=values, compression="gzip", shuffle=True, fletcher32=True)

    expected = read_keras(KERAS / "keras2.h5", tiny_network()).state
    found = read_keras(rewritten(compress, tmp_path), tiny_network()).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_group_in_several_places_is_not_followed_through_all_of_them(tmp_path: Path) -> None:
    """A file of 20 kB took hours."""
    with h5py.File(tmp_path / "many.weights.h5", "w") as file:
        around = file.create_group("layers")
        for depth in range(40):
            around["a"] = around["b"] = file.create_group(f"inner_{depth}")
            around = around["a"].create_group("layers")
    with pytest.raises(CompoundNetError, match="is in several places of the file"):
        read_keras(tmp_path / "many.weights.h5", tiny_network())


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        del file["stem_bn"]
        file["stem_bn"] = h5py.ExternalLink(str(KERAS / "keras2.h5"), "/stem_bn")

    weights = read_keras(rewritten(link, tmp_path), tiny_network())
    with pytest.raises(CompoundNetError, match=r"4 missing \(stem_bn/gamma"):
        from_layout(weights.state, tiny_network(), LAYOUT)


def test_a_zip_that_is_no_keras_file_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(CompoundNetError, match=r"zip file without model\.weights\.h5"):
        read_keras(tmp_path / "x.keras", tiny_network())


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"none.h5: cannot be read: No such file"):
        read_keras(tmp_path / "none.h5", tiny_network())


def test_without_h5py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CompoundNetError, match=r"pip install 'compoundnet\[keras\]'"):
        read_keras(KERAS / "keras3.h5", tiny_network())
    with pytest.raises(CompoundNetError, match=r"pip install 'compoundnet\[keras\]'"):
        write_keras(tmp_path / "x.h5", tiny_network(), {}, Preprocess.authors(45))
