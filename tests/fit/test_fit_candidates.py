"""Candidates: their costs, their order, and the smaller networks that stand in where nothing pretrained fits."""

from __future__ import annotations

import msgspec
import pytest
from small_model import write_small_model

from compoundnet.arch import cost, scale
from compoundnet.base import CompoundNetError
from compoundnet.fit import Candidate, Limits, find_candidates
from compoundnet.fit.candidates import _largest_width, measured, resolutions_of, scaled_candidates, wide_enough
from compoundnet.models import ModelFolder, open_folder

LITE = "efficientnet-lite0"


@pytest.fixture(scope="module")
def lite() -> ModelFolder:
    return open_folder(LITE)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("small") / "small")


def test_costs_are_those_of_the_network_with_the_classes_of_the_data(lite: ModelFolder) -> None:
    network = scale(lite.network, width=0.5, depth=0.6).replace(resolution=96, num_classes=10)
    exact = cost(network)
    found = measured(LITE, lite.network, 96, 10, width=0.5, depth=0.6)
    assert (found.params, found.macs, found.memory_bytes) == (exact.params, exact.macs, exact.memory_bytes)
    assert (found.sram_bytes, found.flash_bytes) == (exact.sram_bytes, exact.flash_bytes)
    assert found.scaled and found.precision == "float32"
    # 4 bytes for each parameter, about 1 in int8, and the graph.
    assert found.size_bytes == 4 * exact.params + 120_000
    assert found.in_precision("int8").size_bytes == int(1.06 * exact.params) + 120_000
    assert found.in_precision("bfloat16").size_bytes == found.size_bytes


def test_a_candidate_in_words() -> None:
    one = Candidate("net", 96, "float32", 1, 1, 1, 1)
    assert str(one) == "net at 96 px" and not one.scaled and one.way == " float32"
    assert str(one.in_precision("int8", "openvino")) == "net at 96 px in int8 on openvino"
    assert str(msgspec.structs.replace(one, width=0.5)) == "net of width 0.5 at 96 px"
    assert str(msgspec.structs.replace(one, depth=0.6)) == "net of depth 0.6 at 96 px"
    assert str(msgspec.structs.replace(one, width=0.5, depth=0.6)) == "net of width 0.5 and depth 0.6 at 96 px"


def test_the_shape_of_a_smaller_network_is_told() -> None:
    one = Candidate("net", 64, "float32", 1, 1, 1, 1)
    assert one.shape == "net" and (one.width, one.depth, one.sram_bytes, one.flash_bytes) == (1.0, 1.0, 0, 0)
    assert Candidate("net", 64, "int8", 1, 1, 1, 1, width=0.5, depth=0.7).shape == "net, width 0.5, depth 0.7"
    assert Candidate("net", 64, "int8", 1, 1, 1, 1, depth=0.7).shape == "net, depth 0.7"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_macs", "2.00k multiply-adds are more than 1.50k"),
        ("max_params", "1.00k parameters are more than 1.50k"),
        ("max_memory", "3.00 kB of memory are more than 1.50 kB"),
        ("max_size", "4.00 kB of file are more than 1.50 kB"),
        ("max_sram", "5.00 kB of SRAM are more than 1.50 kB"),
        ("max_flash", "6.00 kB of flash are more than 1.50 kB"),
    ],
)
def test_what_exceeds_the_budget_is_named(name: str, says: str) -> None:
    one = Candidate("net", 96, "float32", 1000, 2000, 3000, 4000, 5000, 6000)
    limits = msgspec.structs.replace(Limits(), **{name: 1500})
    figure = one.exceeds(limits)
    assert figure == (None if name == "max_params" else says)
    value = {"macs": 2000, "params": 1000, "memory": 3000, "size": 4000, "sram": 5000, "flash": 6000}[name[4:]]
    assert one.exceeds(msgspec.structs.replace(Limits(), **{name: value})) is None, "as much as allowed"
    assert one.exceeds(msgspec.structs.replace(Limits(), **{name: value - 1})) is not None


def test_resolutions_go_up_to_that_of_the_model(lite: ModelFolder, small: ModelFolder) -> None:
    assert resolutions_of(lite) == [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224]
    assert resolutions_of(small) == [32]
    large = msgspec.structs.replace(lite, preprocess=msgspec.structs.replace(lite.preprocess, size=600))
    assert resolutions_of(large)[11:] == [224, 260, 300, 380, 456, 528, 600]
    preprocess = msgspec.structs.replace(lite.preprocess, size=100)
    assert resolutions_of(msgspec.structs.replace(lite, preprocess=preprocess)) == [32, 40, 48, 56, 64, 80, 96, 100]


def test_the_resolution_of_the_images_comes_first_then_the_nearest(lite: ModelFolder) -> None:
    found = find_candidates({LITE: lite}, {LITE: 96}, 10, Limits())
    assert [candidate.resolution for candidate, _ in found][:5] == [96, 112, 80, 128, 64]
    assert all(excess is None for _, excess in found) and len(found) == 12
    with pytest.raises(CompoundNetError, match="no pretrained model is at hand"):
        find_candidates({}, {}, 10, Limits())


def test_of_equally_near_models_the_cheaper_comes_first(lite: ModelFolder, small: ModelFolder) -> None:
    found = find_candidates({LITE: lite, "small": small}, {LITE: 32, "small": 32}, 7, Limits())
    assert [candidate.model for candidate, _ in found][:2] == ["small", LITE]


def test_int8_is_taken_where_a_file_is_too_large_and_on_microcontrollers(lite: ModelFolder) -> None:
    size = measured(LITE, lite.network, 96, 10).size_bytes
    for limits, precision in (
        (Limits(max_size=size), "float32"), (Limits(max_size=size - 1), "int8"), (Limits(max_flash=1e8), "int8"),
    ):  # fmt: skip
        found = find_candidates({LITE: lite}, {LITE: 96}, 10, limits)
        assert {candidate.precision for candidate, _ in found} == {precision}


def test_below_64_px_features_mean_little_unless_the_images_are_smaller() -> None:
    one = Candidate("net", 48, "float32", 1, 1, 1, 1)
    assert not wide_enough(one, {"net": 96}) and not wide_enough(one, {"net": 64})
    assert wide_enough(one, {"net": 48}) and wide_enough(one, {"net": 32})
    assert wide_enough(msgspec.structs.replace(one, resolution=64), {"net": 96})
    assert not wide_enough(msgspec.structs.replace(one, resolution=63), {"net": 96})


def test_smaller_networks_stand_in_where_only_tiny_images_fit(lite: ModelFolder) -> None:
    """At 64 px Lite0 still fits; a little less, and networks that are scaled come after it."""
    macs = measured(LITE, lite.network, 64, 10).macs
    for limit, scaled in ((macs, False), (macs - 1, True)):
        found = find_candidates({LITE: lite}, {LITE: 96}, 10, Limits(max_macs=limit))
        assert any(candidate.scaled for candidate, _ in found) == scaled
        assert not any(candidate.scaled for candidate, _ in found[:10])


def test_smaller_networks_have_the_images_resolution_half_and_a_third(lite: ModelFolder, small: ModelFolder) -> None:
    limits = Limits(max_params=5e5)
    found = scaled_candidates({LITE: lite}, {LITE: 96}, 10, limits)
    assert [(candidate.resolution, candidate.depth) for candidate in found] == [
        (96, 1.0), (96, 0.6), (48, 1.0), (48, 0.6), (32, 1.0), (32, 0.6)
    ]  # fmt: skip
    # Of several models the one with the fewest parameters is scaled; here it fits as it is.
    assert scaled_candidates({LITE: lite, "small": small}, {LITE: 96, "small": 32}, 10, limits) == (
        scaled_candidates({"small": small}, {"small": 32}, 10, limits)
    )
    assert scaled_candidates({LITE: lite}, {LITE: 96}, 10, Limits(max_params=10)) == []


def test_the_width_is_the_largest_that_fits(lite: ModelFolder) -> None:
    def width(limit: float, depth: float = 1.0) -> float | None:
        return _largest_width(LITE, lite.network, 96, depth, 10, Limits(max_params=limit))

    whole, least = (measured(LITE, lite.network, 96, 10, width=share).params for share in (1.0, 0.1))
    assert width(whole) == 1.0 and width(least - 1) is None
    assert 0.1 <= (width(least) or 0) < 0.12
    for limit in (3e5, 1e6, whole - 1):
        found = width(limit)
        assert found is not None and found == round(found, 3)
        assert measured(LITE, lite.network, 96, 10, width=found).params <= limit
        assert measured(LITE, lite.network, 96, 10, width=found + 0.006).params > limit


def test_the_network_of_a_candidate(lite: ModelFolder) -> None:
    plain = measured(LITE, lite.network, 96, 10).network(lite.network)
    assert plain == lite.network.replace(resolution=96)
    narrow = measured(LITE, lite.network, 96, 10, width=0.5).network(lite.network)
    assert narrow.stages == scale(lite.network, width=0.5).stages and narrow.resolution == 96
