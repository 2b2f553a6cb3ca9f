"""`convert`: another library's file becomes a model folder, or an error that says why not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from small_models import lite0_file, small_folder, small_network
from torch import Tensor

from compoundnet.arch import Network, network, scale
from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess, convert, convert_to, load, open_folder, read_folder
from compoundnet.models.layouts import layout, to_layout
from compoundnet.nn import build
from compoundnet.runtime import export

FIXTURES = Path(__file__).parent.parent / "fixtures"
LITE0 = network("efficientnet-lite0")


def timm_state(wanted: Network) -> dict[str, Tensor]:
    return to_layout(build(wanted).state_dict(), wanted, layout("timm"))


def test_the_lite0_file_gives_the_model_that_is_fetched(tmp_path: Path, cache: Path) -> None:
    convert(lite0_file(), tmp_path / "mine", layout="lukemelas", network=LITE0)
    mine, fetched = read_folder(tmp_path / "mine"), open_folder("efficientnet-lite0")
    assert (mine.network, mine.preprocess, mine.labels) == (fetched.network, fetched.preprocess, fetched.labels)
    assert mine.weights.read_bytes() == fetched.weights.read_bytes()
    assert "efficientnet-lite0-57934424.pth, sha256 5793442" in (tmp_path / "mine" / "README.md").read_text()


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_classes_and_channels_are_the_files(form: str, tmp_path: Path) -> None:
    state = timm_state(small_network().replace(num_classes=7, in_channels=4))
    path = tmp_path / "weights"
    if form == "torch":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    model = convert(path, tmp_path / "m", layout="timm", network=small_network())
    assert (model.network.num_classes, model.network.in_channels, model.labels) == (7, 4, None)
    assert load(tmp_path / "m")(torch.zeros(1, 4, 32, 32)).shape == (1, 7)


def test_the_layout_brings_its_padding_and_norm(tmp_path: Path) -> None:
    torch.save(timm_state(small_network()), tmp_path / "weights.pth")
    native = convert(tmp_path / "weights.pth", tmp_path / "m", layout="timm-native", network=small_network())
    assert (native.network.padding, native.network.norm.eps) == ("symmetric", 1e-5)


def test_preprocessing_and_labels_can_be_given(tmp_path: Path) -> None:
    torch.save(timm_state(small_network()), tmp_path / "weights.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\nlion\n")
    own = Preprocess(size=64, crop=1.0, interpolation="bilinear")
    model = convert(
        tmp_path / "weights.pth",
        tmp_path / "m",
        layout="timm",
        network=small_network(),
        labels=tmp_path / "names.txt",
        preprocess=own,
    )
    assert (model.labels, model.preprocess) == (("cat", "dog", "lion"), own)
    assert read_folder(tmp_path / "m") == model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet-b3", Preprocess.authors(300)),
        ("efficientnet-lite3", Preprocess.authors_lite(280)),
        ("efficientnet-edgetpu-m", Preprocess.authors_lite(240)),
        ("efficientnetv2-b1", Preprocess.authors(240)),
        ("efficientnetv2-s", Preprocess.authors_v2(384)),
        ("tinynet-e", Preprocess.authors(106)),
        ("resnet-50", Preprocess.authors(224)),
    ],
)
def test_the_default_preprocessing_is_the_authors(name: str, expected: Preprocess) -> None:
    from compoundnet.models.preprocess import default_preprocess

    assert default_preprocess(network(name)) == expected


def test_efficientnetv2_sees_the_whole_image_from_320_px_on() -> None:
    large, small = Preprocess.authors_v2(384), Preprocess.authors_v2(300)
    assert (large.fit, large.crop, small.fit, small.crop) == ("squash", 1.0, "crop", 300 / 332)
    white = Image.new("RGB", (8, 4), "white")
    assert small.pixels(white).max() == pytest.approx((255 - 128) / 128)


def test_another_architecture_says_which_tensors_differ_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"efficientnet-lite0-57934424\.pth.*missing.*_expand_conv"):
        convert(lite0_file(), tmp_path / "m", layout="lukemelas", network=network("efficientnet-lite2"))
    with pytest.raises(CompoundNetError, match=r"missing.*conv_stem\.weight.*extra.*_conv_stem\.weight"):
        convert(lite0_file(), tmp_path / "m", layout="timm", network=LITE0)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_as_many_as_the_classes_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(CompoundNetError, match=r"names\.txt: holds 2 labels, and the network has 1000 classes"):
        convert(lite0_file(), tmp_path / "m", layout="lukemelas", network=LITE0, labels=tmp_path / "names.txt")
    assert not (tmp_path / "m").exists()


def test_an_existing_folder_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    with pytest.raises(CompoundNetError, match="exists already"):
        convert(tmp_path / "nothing.pth", tmp_path / "pets", layout="timm", network=small_network())
    torch.save(timm_state(small_network(num_classes=9)), tmp_path / "weights.pth")
    convert(tmp_path / "weights.pth", tmp_path / "pets", layout="timm", network=small_network(), replace=True)
    assert read_folder(tmp_path / "pets").network.num_classes == 9


def test_a_keras_file_brings_its_own_mean_and_deviation(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (extra: keras)")
    b0 = network("efficientnet-b0")
    stages = tuple(
        msgspec.structs.replace(stage, repeats=repeats) for stage, repeats in zip(b0.stages, (1, 1, 2), strict=False)
    )
    small = scale(b0.replace(stages=stages), width=0.1, resolution=45)
    model = convert(FIXTURES / "keras" / "keras3.keras", tmp_path / "m", layout="keras", network=small)
    assert (model.network.num_classes, model.network.padding, model.labels) == (5, "same", None)
    assert model.preprocess.size == 45
    assert model.preprocess.mean != Preprocess.authors(45).mean
    assert load(tmp_path / "m")(torch.zeros(1, 3, 45, 45)).shape == (1, 5)


def test_raw_weights_need_an_average_beside_them(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no moving average beside its weights, so leave out raw"):
        convert(lite0_file(), tmp_path / "m", layout="lukemelas", network=LITE0, raw=True)


def test_an_unknown_layout_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no layout named 'tim'; did you mean timm"):
        convert(lite0_file(), tmp_path / "m", layout="tim", network=LITE0)


def test_a_file_without_a_classifier_becomes_a_trunk(tmp_path: Path) -> None:
    torch.save(timm_state(small_network(num_classes=0)), tmp_path / "trunk.pth")
    model = convert(tmp_path / "trunk.pth", tmp_path / "m", layout="timm", network=small_network())
    assert (model.network.num_classes, model.labels) == (0, None)
    assert load(model)(torch.zeros(1, 3, 32, 32)).shape == (1, 32)
    assert load(model, num_classes=5)(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


# The way back: `convert_to`.


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("timm", "small.safetensors"),
        ("timm", "small.pth"),
        ("lukemelas", "small.safetensors"),
        ("transformers", "small.pth"),
        ("keras", "small.h5"),
        ("tensorflow", "small"),
    ],
)
def test_what_is_written_for_another_library_is_read_back_equal(name: str, file: str, tmp_path: Path) -> None:
    for library, needed in (("keras", "h5py"), ("tensorflow", "tensorflow")):
        if name == library:
            pytest.importorskip(needed)
    model = small_folder(tmp_path / "model")
    assert convert_to(model, tmp_path / file, layout=name) == tmp_path / file
    back = convert(tmp_path / file, tmp_path / "back", layout=name, network=model.network)
    assert back.network == model.network
    np.testing.assert_allclose(back.preprocess.std, model.preprocess.std, rtol=1e-6)
    assert back.weights.read_bytes() == model.weights.read_bytes()
    with pytest.raises(CompoundNetError, match="exists already; give another place, or --force to replace it"):
        convert_to(model, tmp_path / file, layout=name)
    convert_to(model, tmp_path / file, layout=name, replace=True)


def test_timm_loads_what_is_written_for_it(tmp_path: Path, cache: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    lite0_file()
    convert_to("efficientnet-lite0", tmp_path / "lite0.safetensors", layout="timm")
    theirs = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(tmp_path / "lite0.safetensors")).eval()
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = load("efficientnet-lite0")(image)
        assert (theirs(image) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("timm", "small.bin", r"ends in \.safetensors or \.pth"),
        ("keras", "small.safetensors", r"this form must end in \.h5"),
        ("timm-native", "small.pth", "would give other logits in timm, which has padding symmetric"),
        ("tim", "small.pth", "no layout named 'tim'; did you mean timm"),
        ("timm", "/dev/null/small.pth", "/dev/null is not a folder"),
    ],
)
def test_what_cannot_be_written_is_an_error(name: str, file: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(CompoundNetError, match=message):
        convert_to(small_folder(tmp_path / "model"), tmp_path / file, layout=name)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_exported_file_holds_no_weights_to_convert(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "model")
    export(model, tmp_path / "small.onnx")
    with pytest.raises(CompoundNetError, match="is an exported file, which holds no weights for torch"):
        convert_to(tmp_path / "small.onnx", tmp_path / "small.pth", layout="timm")
