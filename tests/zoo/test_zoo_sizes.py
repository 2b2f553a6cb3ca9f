"""Any known network by name: of the catalogue, of a file, of the comparison networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from compoundnet import arch, base, zoo


def test_a_catalogue_network_has_all_its_cost() -> None:
    measured = zoo.network_size("EfficientNet_B0")
    assert (measured.name, measured.resolution, measured.params) == ("efficientnet-b0", 224, 5_288_548)
    assert measured.cost == arch.cost(arch.network("efficientnet-b0"))


def test_a_comparison_network_has_size_and_multiply_adds() -> None:
    measured = zoo.network_size("densenet-169")
    assert (measured.resolution, measured.params, measured.cost) == (224, 14_149_480, None)


def test_a_file_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "net.toml"
    arch.network("resnet-18").save(file)
    assert zoo.network_size(str(file)).params == zoo.network_size("resnet-18").params


def test_a_misspelt_name_is_matched_against_both() -> None:
    with pytest.raises(base.CompoundNetError, match="did you mean densenet-169"):
        zoo.network_size("densnet-169")
    with pytest.raises(base.CompoundNetError, match="did you mean resnet-50"):
        zoo.network_size("resnet50")
