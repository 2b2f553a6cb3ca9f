"""The comparison networks by name: who they are, what they cost, and what is said where one cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compoundnet import zoo
from compoundnet.base import CompoundNetError

# Rows of the paper's Table 2 that are neither EfficientNets nor networks of stages, in its order.
TABLE_2 = [
    "DenseNet-169",
    "DenseNet-264",
    "Inception-v3",
    "Xception",
    "Inception-v4",
    "Inception-ResNet-v2",
    "ResNeXt-101",
    "PolyNet",
    "SENet",
    "NASNet-A",
    "AmoebaNet-A",
    "PNASNet",
    "AmoebaNet-C",
    "GPipe",
]


def test_every_row_of_table_2_that_is_not_made_of_stages_is_there() -> None:
    assert [network.title for network in zoo.entries().values()] == TABLE_2
    assert all(name == network.name for name, network in zoo.entries().items())


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("densenet-169", 14_149_480),
        ("inception-v3", 23_834_568),
        ("resnext-101", 83_455_272),
        ("nasnet-a", 88_753_150),
        ("polynet", 95_366_600),
    ],
)
def test_parameters_are_those_of_the_published_networks(name: str, params: int) -> None:
    assert zoo.network(name).params == params


@pytest.mark.parametrize(
    ("name", "resolution", "params", "macs"),
    [
        ("nasnet-a", 331, 88.8, 23.8),
        ("amoebanet-a", 331, 86.7, 23.1),
        ("amoebanet-c", 331, 155.3, 41.1),
        ("amoebanet-b", 480, 557.3, 298.8),
    ],
)
def test_cell_networks_cost_what_their_papers_print(name: str, resolution: int, params: float, macs: float) -> None:
    network = zoo.network(name)
    assert network.resolution == resolution
    assert round(network.params / 1e6, 1) == params
    assert round(network.macs / 1e9, 1) == macs


def test_names_are_found_however_they_are_spelt() -> None:
    assert zoo.network("Inception_V4") is zoo.network("inception-v4")


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(CompoundNetError, match=r"no comparison network named 'amoebanet-d'; did you mean amoebanet-"):
        zoo.network("amoebanet-d")


def test_the_source_is_the_library_that_builds_it() -> None:
    sources = {name: network.source for name, network in zoo.entries().items()}
    assert sources["densenet-264"] == "torchvision"
    assert sources["senet-154"] == "timm"
    assert sources["amoebanet-c"] == sources["polynet"] == "compoundnet"


def test_reading_sizes_and_costs_does_not_import_torch() -> None:
    program = (
        "import sys; from compoundnet import zoo; "
        "assert all(e.params and e.macs for e in zoo.entries().values()); "
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CompoundNetError, match=r"building xception needs timm: pip install 'compoundnet\[peers\]'"):
        zoo.network("xception").build()


def test_a_network_of_no_classes_is_refused() -> None:
    with pytest.raises(CompoundNetError, match="num_classes must be at least 1, got 0"):
        zoo.network("polynet").build(num_classes=0)
