"""What the report of a fit says: the data, the answer's costs and row, and what more budget would bring."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fitted import answered, lite0
from grey_images import images
from PIL import Image

from compoundnet.base import parse_bytes, parse_count, parse_duration
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays, Files, Strings
from compoundnet.fit import Fit, Limits, Rung, write_fit_report
from compoundnet.fit.report import costs_text, what_more_brings
from compoundnet.fit.report_data import counts_table, counts_text, sizes_text

RACED = (Rung(10, 10, ((lite0(96), 0.8), (lite0(64), 0.7))),)


def rows(found: Fit, folder: Path) -> list[str]:
    """The first column of the table of candidates."""
    write_fit_report(found, folder / "report.html")
    page = (folder / "report.html").read_text()
    table = page[page.index('id="candidates"') : page.index("</table>", page.index('id="candidates"'))]
    return re.findall(r'<th scope="row">([^<]*)</th>', table)


def classes_of(counts: list[int]) -> Dataset:
    names = tuple(f"class-{number:02}" for number in range(len(counts)))
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.zeros((len(labels), 8, 8, 3), np.uint8)
    return Dataset("many", {"train": Split("train", names, labels, Arrays("train", pixels))})


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ({"max_size": 6e6}, "--max-size 6.60MB"),
        ({"max_params": 1e6}, "--max-params 1.10M"),
        ({"max_macs": 1.8e9}, "--max-macs 1.98B"),
        ({"max_memory": 77_777_777}, "--max-memory 85.6MB"),
        ({"max_sram": 320e3, "max_flash": 900}, "--max-sram 352kB --max-flash 990B"),
        ({"max_latency": 8, "max_size": 2e9}, "--max-latency 8.8ms --max-size 2.20GB"),
        ({"max_latency": 2000}, "--max-latency 2.2s"),
    ],
)
def test_a_tenth_more_names_options_that_are_read_back(bounds: dict[str, Any], shown: str) -> None:
    text = what_more_brings(answered(lite0(64), limits=Limits(**bounds)))
    assert shown in text
    read = {"latency": parse_duration, "macs": parse_count, "params": parse_count}
    given = re.findall(r"--max-(\w+) ([\w.]+\w)", shown)
    assert len(given) == len(bounds)
    for name, value in given:
        assert read.get(name, parse_bytes)(value) == pytest.approx(1.1 * bounds[f"max_{name}"], rel=0.005)


def test_a_tenth_more_on_a_device_is_a_field_of_its_profile() -> None:
    board = Limits(max_latency=8, max_macs=30e6, max_sram=320e3, device="a board")
    text = what_more_brings(answered(lite0(64), limits=board))
    assert "--max-latency 8.8ms; in the profile of a board" in text
    assert 'max_macs = "33.0M" or a tenth more max_latency, max_sram = "352kB"' in text
    assert "--max-sram" not in text and "--max-macs" not in text


def test_without_bounds_or_an_answer_nothing_is_said_of_more() -> None:
    found = answered(lite0(64), limits=Limits())
    assert what_more_brings(found) == ""
    assert costs_text(msgspec.structs.replace(found, answer=None)) == ""


def test_the_costs_of_the_answer_are_on_the_page(tmp_path: Path) -> None:
    write_fit_report(answered(lite0(64)), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<dd>3.40M parameters, 30.7M multiply-adds, 21.2 MB of memory</dd>" in page
    board = answered(lite0(64, "int8"), limits=Limits(max_sram=320e3))
    assert costs_text(board).endswith("164 kB of SRAM and 3.50 MB of flash in int8")


def test_the_row_of_the_answer_is_marked(tmp_path: Path) -> None:
    name = "efficientnet-lite0"
    assert rows(answered(lite0(64)), tmp_path) == [f"{name} (the answer)", name]
    other = answered(lite0(96, "int8", "openvino"))
    assert rows(other, tmp_path) == [name, f"{name} (the answer, deployed in int8 on openvino)"]
    raised = answered(lite0(112), fine_tuned=True, rungs=RACED)
    assert rows(raised, tmp_path) == [name, f"{name} (the answer, deployed at 112 px)"]
    assert "trained at 96 px, deployed at 112 px" in (tmp_path / "report.html").read_text()
    lowered = answered(lite0(48), fine_tuned=True, rungs=(Rung(10, 10, ((lite0(64), 0.7),)),))
    assert rows(lowered, tmp_path) == [f"{name} (the answer, deployed at 48 px)", name]
    screened = answered(lite0(64), fine_tuned=True, rungs=(Rung(10, 10, ((lite0(56), 0.7),)),))
    assert rows(screened, tmp_path) == [f"{name} (the answer, trained at 56 px)", name]


def test_the_page_has_the_images_of_each_class_and_their_sizes(tmp_path: Path) -> None:
    write_fit_report(answered(lite0(64)), tmp_path / "report.html", images())
    page = (tmp_path / "report.html").read_text()
    assert "<p>Each class has 30 training images. All have 24 x 24 px.</p>" in page
    assert '<tr><th scope="row">grey</th><td class="number">30</td><td class="number">10</td></tr>' in page


def test_classes_are_counted() -> None:
    few = classes_of([5, 1, 7])
    assert counts_text(few) == "The smallest class, class-01, has 1 training image; the largest, class-02, has 7."
    assert counts_table(few) == (
        ["class", "training"], [("class-00", ["5"]), ("class-01", ["1"]), ("class-02", ["7"])],
    )  # fmt: skip
    many = classes_of([10 + number for number in range(25)])
    assert counts_text(many) == (
        "Training images: 22 in the median; the fewest have class-00 (10), class-01 (11), class-02 (12), class-03 (13),"
        " class-04 (14); the most have class-24 (34), class-23 (33), class-22 (32), class-21 (31), class-20 (30)."
    )
    assert counts_table(many)[1] == []


def test_sizes_are_those_of_the_headers(tmp_path: Path) -> None:
    sizes = ((20, 30), (40, 10), (30, 50))
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    names = tuple(f"{number}.png" for number in range(4))

    def split(first: int) -> Dataset:
        source = Files(str(tmp_path), Strings.of(names[first:]))
        return Dataset("mixed", {"train": Split("train", ("a",), np.zeros(4 - first, np.int64), source)})

    assert sizes_text(split(0)) == "They are 20 to 40 px wide (median 30) and 10 to 50 px high (median 30)."
    assert sizes_text(split(3)) == "No training image can be read."
    many = classes_of([600])
    assert sizes_text(many) == "All have 8 x 8 px (500 evenly spaced training images were looked at)."
