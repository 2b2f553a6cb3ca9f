"""The budget of a fit: device profiles, bounds, and what is a candidate where nothing pretrained fits."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from grey_images import images

from compoundnet.base import CompoundNetError
from compoundnet.data.sources import Files, Strings
from compoundnet.fit import Limits, find_candidates, read_device
from compoundnet.fit.images import identity_of
from compoundnet.models import open_folder


def device(folder: Path, text: str) -> Limits:
    (folder / "device.toml").write_text(text)
    return read_device(folder / "device.toml")


def test_a_device_profile_gives_bounds(tmp_path: Path) -> None:
    found = device(
        tmp_path, 'name = "board"\nmax_flash = "1MB"\nmax_sram = 320e3\nmax_latency = "50ms"\nns_per_mac = 2.0\n'
    )
    assert (found.max_flash, found.max_sram, found.max_macs, found.max_latency) == (1e6, 320e3, 25e6, None)
    assert found.microcontroller and "board" in found.text()
    tighter = Limits(max_flash=2e6, max_macs=1e6, max_size=5e6).within(found)
    assert (tighter.max_flash, tighter.max_macs, tighter.max_size, tighter.device) == (1e6, 1e6, 5e6, "board")


def test_a_budget_is_multiplied_and_told_in_words(tmp_path: Path) -> None:
    wider = Limits(max_latency=5.0, max_size=3e6).times(1.1)
    assert (wider.max_latency, wider.max_macs) == (5.5, None) and wider.max_size == pytest.approx(3.3e6)
    assert Limits(max_latency=5.0).text() == "at most 5 ms an image"
    assert Limits(min_accuracy=0.9, device="board").text() == "at least 90.0%"
    assert Limits(max_params=2e6, device="board").text() == "at most 2.00M parameters (board)"
    fast = device(tmp_path, 'name = "board"\nmax_latency = "1ms"\nns_per_mac = 0.5\n')
    assert fast.max_macs == 2e6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('max_flash = "1MB"\n', "name"),
        ('name = "a"\n', "holds no bound"),
        ('name = "a"\nmax_latency = "5ms"\n', "the field ns_per_mac, which predicts it"),
        ('name = "a"\nmax_latency = "5ms"\nns_per_mac = 0.0\n', "ns_per_mac must be above 0"),
        (
            'name = "a"\nmax_latency = "5 apples"\nns_per_mac = 1.0\n',
            r"toml: max_latency: '5 apples' is not a time",
        ),
        ('name = "a"\nmax_flash = "1 apple"\n', r"device\.toml: max_flash: '1 apple' is not a size"),
        ('name = "a"\nmax_flsh = "1MB"\n', "max_flsh"),
        ('name = "a"\nmax_flash = "much"\n', "is not a size"),
    ],
)
def test_a_profile_that_cannot_be_used(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(CompoundNetError, match=expected):
        device(tmp_path, text)


@pytest.mark.parametrize(
    "limits", [Limits(max_params=1e6), Limits(max_flash=5e5), Limits(max_size=1e6), Limits(max_macs=4e6)]
)
def test_smaller_networks_are_candidates_where_nothing_pretrained_fits(limits: Limits) -> None:
    name = "efficientnet-lite0"
    found = find_candidates({name: open_folder(name)}, {name: 96}, 10, limits)
    scaled = [candidate for candidate, _ in found if candidate.scaled]
    assert not any(excess is None for candidate, excess in found if not candidate.scaled)
    assert scaled and all(candidate.exceeds(limits) is None for candidate in scaled)
    if limits.microcontroller:
        assert {candidate.precision for candidate in scaled} == {"int8"}


def test_nothing_is_scaled_where_a_pretrained_network_fits() -> None:
    name = "efficientnet-lite0"
    for limits in (Limits(), Limits(max_macs=60e6), Limits(max_size=5e6)):
        found = find_candidates({name: open_folder(name)}, {name: 96}, 10, limits)
        assert not any(candidate.scaled for candidate, _ in found)


def test_images_are_others_if_a_file_is_changed(tmp_path: Path) -> None:
    data = images()
    assert identity_of(data) == identity_of(images()) != identity_of(images(seed=9))
    train = data.split("train")
    names = [f"{index}.png" for index in range(len(train))]
    for index, name in enumerate(names):
        train.image(index).save(tmp_path / name)
    split = msgspec.structs.replace(train, source=Files(str(tmp_path), Strings.of(names)))
    files = msgspec.structs.replace(data, splits={"train": split})
    before = identity_of(files)
    assert identity_of(files) == before
    train.image(1).save(tmp_path / names[0])
    assert identity_of(files) != before


@pytest.mark.parametrize(
    "name", ["max_latency", "max_size", "max_macs", "max_params", "max_memory", "max_sram", "max_flash"]
)
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_bound_is_a_number_above_0(name: str, value: float) -> None:
    with pytest.raises(CompoundNetError, match=f"{name} must be a number above 0"):
        msgspec.structs.replace(Limits(), **{name: value})
    assert getattr(msgspec.structs.replace(Limits(), **{name: 0.5}), name) == 0.5


def test_fractions_have_limits() -> None:
    for accuracy in (0, 1, -0.1, 1.5):
        with pytest.raises(CompoundNetError, match="min_accuracy must be a fraction between 0 and 1"):
            Limits(min_accuracy=accuracy)
    for drop in (-0.1, 1, 1.5):
        with pytest.raises(CompoundNetError, match="max_drop must be a fraction from 0 to below 1"):
            Limits(max_drop=drop)
    assert Limits(max_drop=0, min_accuracy=0.5).max_drop == 0 and Limits().max_drop is None


def test_a_budget_in_words() -> None:
    whole = Limits(
        max_latency=5, max_size=6e6, max_macs=1e8, max_params=2e6, max_memory=3e7, max_sram=3e5, max_flash=1e6,
        min_accuracy=0.9, device="board",
    )  # fmt: skip
    assert whole.text() == (
        "at most 5 ms an image, a file of 6.00 MB, 100M multiply-adds, 2.00M parameters, 30.0 MB of memory, 300 kB of"
        " SRAM in int8, 1.00 MB of flash in int8 (board); at least 90.0%"
    )
    assert Limits().text() == Limits(device="board").text() == "no limits"
    assert Limits(min_accuracy=0.5).text() == "at least 50.0%"
    assert not Limits(max_size=1).microcontroller
    assert Limits(max_sram=1).microcontroller and Limits(max_flash=1).microcontroller


def test_a_device_that_allows_fewer_multiply_adds_than_its_time_says(tmp_path: Path) -> None:
    text = 'name = "a"\nmax_latency = "50ms"\nns_per_mac = 2.0\nmax_macs = {}\n'
    assert device(tmp_path, text.format("10e6")).max_macs == 10e6
    assert device(tmp_path, text.format("90e6")).max_macs == 25e6
