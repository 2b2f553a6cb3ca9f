"""Any known network by name: of the catalogue, of a file, of the comparison networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from compoundnet import arch, base, zoo


def test_a_catalogue_network_has_all_its_cost() -> None:
    found = zoo.network_size("EfficientNet_B0")
    assert (found.name, found.resolution, found.params) == ("efficientnet-b0", 224, 5_288_548)
    assert found.cost == arch.cost(arch.network("efficientnet-b0"))


def test_a_comparison_network_has_size_and_multiply_adds() -> None:
    found = zoo.network_size("densenet-169")
    assert (found.resolution, found.params, found.cost) == (224, 14_149_480, None)


def test_a_file_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "net.toml"
    arch.network("resnet-18").save(file)
    assert zoo.network_size(str(file)).params == zoo.network_size("resnet-18").params


def test_a_misspelt_name_is_matched_against_both() -> None:
    with pytest.raises(base.CompoundNetError, match="did you mean densenet-169"):
        zoo.network_size("densnet-169")
    with pytest.raises(base.CompoundNetError, match="did you mean resnet-50"):
        zoo.network_size("resnet50")


def test_a_network_is_found_by_name_or_file(tmp_path: Path) -> None:
    b0 = arch.network("efficientnet-b0")
    b0.save(tmp_path / "net.toml")
    assert zoo.find_network("EfficientNet_B0") == zoo.find_network(tmp_path / "net.toml") == b0
    assert zoo.find_network("Inception_V4") == zoo.network("inception-v4")
    assert zoo.find_scalable("resnet-18") == arch.network("resnet-18")


def test_what_needs_stages_says_so_of_a_comparison_network() -> None:
    with pytest.raises(base.CompoundNetError, match="densenet-169 is a comparison network that torchvision builds"):
        zoo.find_scalable("densenet-169")
