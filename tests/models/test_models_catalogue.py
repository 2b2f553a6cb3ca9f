"""The catalogue of pretrained weights agrees with itself and with the library that publishes the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from compoundnet.arch import canonical, families, network
from compoundnet.base import CompoundNetError
from compoundnet.models import entries, find
from compoundnet.models.catalogue import Hub, Package, PretrainedWeights
from compoundnet.models.labels import label_set
from compoundnet.models.layouts import layout

ENTRIES = entries()
FAMILIES = ("efficientnet-lite", "efficientnet-edgetpu", "efficientnetv2", "tinynet", "mobilenet-v4")
HUB = [entry for entry in ENTRIES if isinstance(entry.source, Hub)]


def test_every_name_and_alias_means_one_entry() -> None:
    names = [name for entry in ENTRIES for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(name == canonical(name) for name in names)
    assert all(find(name).name == entry.name for entry in ENTRIES for name in (entry.name, *entry.aliases))


@pytest.mark.parametrize("number", range(9))
def test_every_efficientnet_has_weights_under_its_own_name(number: int) -> None:
    found = find(f"efficientnet-b{number}")
    assert found.network == f"efficientnet-b{number}"
    assert found.training == ("AutoAugment" if number < 8 else "RandAugment")


@pytest.mark.parametrize(
    "name",
    ["efficientnet-l2", *(name for family in FAMILIES for name in families()[family])],
)
def test_every_network_of_these_families_has_weights_under_its_own_name(name: str) -> None:
    assert find(name).network == name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("EfficientNet_B0", "efficientnet-b0"),
        ("efficientnet-b0.aa", "efficientnet-b0"),
        ("tf_efficientnet_b0.aa_in1k", "efficientnet-b0"),
        ("tf_efficientnet_b4.ns_jft_in1k", "efficientnet-b4.noisy-student"),
        ("efficientnet_l2.noisy_student", "efficientnet-l2"),
        ("efficientnet_b8.AdvProp", "efficientnet-b8.advprop"),
    ],
)
def test_other_spellings_are_understood(written: str, meant: str) -> None:
    assert find(written).name == meant


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        CompoundNetError, match=r"'efficientnet-b0\.noisystudent'; did you mean efficientnet-b0\.noisy-s"
    ):
        find("efficientnet-b0.noisystudent")
    with pytest.raises(CompoundNetError, match="no pretrained weights are known for resnet-50"):
        find("ResNet_50")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_can_be_used(entry: PretrainedWeights) -> None:
    built = entry.build_network()
    assert built.resolution == entry.preprocess.size
    assert built.stages == network(entry.network).stages
    assert len(label_set(entry.labels)) == built.num_classes == 1000
    assert layout(entry.layout).adapt(built).padding == ("symmetric" if entry.layout == "timm-native" else "same")
    assert layout(entry.layout).pairs(layout(entry.layout).adapt(built))
    assert 59 < entry.top1 < 90
    assert entry.training_size <= entry.preprocess.size
    assert entry.top5 is None or entry.top1 < entry.top5 < 99
    assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32
    assert entry.licence == "Apache-2.0"


def test_weights_of_a_package_have_a_checksum() -> None:
    packaged = [entry for entry in ENTRIES if isinstance(entry.source, Package)]
    assert [entry.name for entry in packaged] == [f"efficientnet-lite{number}" for number in range(3)]
    assert all(entry.sha256 is not None for entry in packaged)


def test_better_training_gives_better_accuracy() -> None:
    """A slip in a copied column of figures would break this order, which holds for every published network."""
    for number in range(8):
        base = f"efficientnet-b{number}"
        assert find(base).top1 < find(f"{base}.advprop").top1 < find(f"{base}.noisy-student").top1
        if number < 6:
            assert find(f"{base}.in1k").top1 < find(base).top1
    for suffix in ("", ".advprop", ".noisy-student"):
        rising = [find(f"efficientnet-b{number}{suffix}").top1 for number in range(8)]
        assert rising == sorted(rising)


@pytest.mark.parametrize("entry", HUB, ids=lambda entry: entry.name)
def test_a_hub_entry_is_as_timm_declares_it(entry: PretrainedWeights) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    assert isinstance(entry.source, Hub)
    owner, _, name = entry.source.repository.partition("/")
    theirs = timm.models.get_pretrained_cfg(name)
    assert theirs is not None
    assert theirs.hf_hub_id == f"{owner}/{name}"
    ours = entry.preprocess
    size, crop = (theirs.test_input_size or theirs.input_size)[1], theirs.test_crop_pct or theirs.crop_pct
    assert (size, theirs.input_size[1], theirs.interpolation) == (ours.size, entry.training_size, ours.interpolation)
    assert (theirs.mean, theirs.std) == (ours.mean, ours.std)
    assert crop == pytest.approx(ours.crop, abs=3e-3)  # timm rounds size / (size + 32)
    assert {"center": "crop", "squash": "squash"}[theirs.crop_mode] == ours.fit
    assert theirs.num_classes == 1000
    assert theirs.license.lower() == entry.licence.lower()


def test_every_published_timm_file_of_the_family_is_here() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    published = {
        f"timm/{name}"
        for pattern in ("tf_efficientnet_[bel]*", "tf_efficientnetv2_*", "tinynet_*")
        for name in timm.list_models(f"{pattern}.*", pretrained=True)
        if timm.models.get_pretrained_cfg(name).num_classes == 1000  # the others have no labels here
    }
    authors = {
        entry.source.repository
        for entry in HUB
        if isinstance(entry.source, Hub) and (entry.layout == "timm" or entry.network.startswith("tinynet"))
    }
    assert published == authors


def test_labels_are_imagenets_and_tell_the_classes_apart() -> None:
    labels = label_set("imagenet-1k")
    assert len({label.lower() for label in labels}) == len(labels) == 1000
    assert [labels[index] for index in (0, 281, 282, 285, 657, 967, 999)] == [
        "tench", "tabby", "tiger cat", "Egyptian cat", "missile", "espresso", "toilet tissue",
    ]  # fmt: skip


def test_labels_are_the_first_name_of_each_synset() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    info = Path(timm.__file__).parent / "data" / "_info"
    names = dict(line.split("\t") for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    synsets = (info / "imagenet_synsets.txt").read_text().split()
    labels = label_set("imagenet-1k")
    other = [index for index, synset in enumerate(synsets) if labels[index] != names[synset].split(",")[0]]
    assert other == [134, 263, 264, 517, 638, 639]


def test_an_unknown_label_set_names_the_known_ones() -> None:
    with pytest.raises(CompoundNetError, match="known: imagenet-1k"):
        label_set("cifar")


def test_a_name_is_its_networks_with_the_training_as_suffix() -> None:
    assert all(entry.name.partition(".")[0] == entry.network for entry in ENTRIES)
