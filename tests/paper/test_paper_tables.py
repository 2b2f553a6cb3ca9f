"""The paper's tables: what is measured, and that every verdict follows from the printed digits."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from compoundnet import arch, base, paper, zoo
from compoundnet.paper.formats import comma_separated, lay_out, markdown
from compoundnet.paper.printed import printed_table
from compoundnet.paper.reproduction import Table, TableCell, TableRow
from compoundnet.train.results import Result

TABLES = ("table1", "table2", "table3", "table5", "table6", "table7", "table8")
FIRST = tuple(name for name in TABLES if name not in ("table5", "table8"))  # those that start without numpy too


def table(name: str, results: tuple[Result, ...] = ()) -> Table:
    made = paper.reproduce(name, paper.Results(results))
    assert isinstance(made, Table)
    return made


def line(name: str, label: str, results: tuple[Result, ...] = ()) -> TableRow:
    return next(row for row in table(name, results).rows if row.label == label)


def cell(name: str, label: str, figure: str) -> TableCell:
    return line(name, label).cells[figure]


def billions(name: str, label: str) -> float:
    measured = cell(name, label, "macs").measured
    assert isinstance(measured, int)
    return measured / 1e9


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_the_paper_is_there_with_what_it_prints(name: str) -> None:
    printed, made = printed_table(name), table(name)
    assert [row.label for row in made.rows] == [row.label for row in printed.rows]
    for row, shown in zip(printed.rows, made.rows, strict=True):
        assert {figure: one.printed for figure, one in shown.cells.items() if one.printed} == row.printed


@pytest.mark.parametrize("name", TABLES)
def test_every_difference_has_its_reason_and_no_reason_outlives_its_difference(name: str) -> None:
    given = {(row.label, figure) for row in printed_table(name).rows for figure in row.reasons}
    differing = {
        (row.label, figure) for row in table(name).rows for figure, one in row.cells.items() if one.verdict == "differs"
    }
    assert given <= differing
    assert all(line(name, label).cells[figure].reason for label, figure in differing)


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "table6", "table7", "table8"])
def test_printed_data_name_known_columns_groups_and_networks(name: str) -> None:
    printed = printed_table(name)
    labels = {row.label for row in printed.rows}
    assert len(labels) == len(printed.rows)
    figures = {figure for section in printed.sections for figure in section}
    assert figures | {"label"} == set(printed.columns)
    for row in printed.rows:
        assert {*row.printed, *row.reasons, *row.published} <= figures
        assert row.group is None or row.group in labels
        assert row.network is None or zoo.network_size(row.network).params > 0


def test_table1_is_the_b0_value() -> None:
    assert table("table1").counts == {"agrees": 36}


def test_table2_measures_all_24_networks() -> None:
    rows = table("table2").rows
    assert len(rows) == 24
    assert all(isinstance(row.cells[figure].measured, int) for row in rows for figure in ("params", "macs"))


def test_table2_sizes_that_are_known_exactly() -> None:
    expected = {"ResNet-50": 25_557_032, "ResNet-152": 60_192_808, "DenseNet-169": 14_149_480}
    expected |= {"Inception-v3": 23_834_568, "ResNeXt-101": 83_455_272, "EfficientNet-B0": 5_288_548}
    assert {label: cell("table2", label, "params").measured for label in expected} == expected


def test_table2_ratios_are_to_the_efficientnet_of_the_group() -> None:
    assert cell("table2", "ResNet-152", "params_ratio").measured == pytest.approx(60_192_808 / 7_794_184)
    assert cell("table2", "GPipe", "params_ratio").verdict == "agrees"  # the headline's 8.4 times smaller
    rounded = cell("table2", "ResNet-50", "params_ratio")
    assert (rounded.shown, rounded.reason) == ("4.83x", "The paper divides rounded figures: 26M / 5.3M is 4.9x.")
    follows = cell("table2", "AmoebaNet-C", "macs_ratio")
    assert follows.reason == "Follows from the FLOPs of EfficientNet-B5."


def test_gpipe_has_no_flops_in_print_and_one_measured_here() -> None:
    gpipe = cell("table2", "GPipe", "macs")
    assert (gpipe.printed, gpipe.verdict, gpipe.shown) == (None, "not printed", "299B")


@pytest.mark.parametrize(("network", "macs"), [("efficientnet-b4", 4.39), ("efficientnet-b5", 10.27)])
def test_b4_and_b5_are_larger_than_printed(network: str, macs: float) -> None:
    label = f"EfficientNet-{network[-2:].upper()}"
    assert cell("table2", label, "params").verdict == "agrees"
    assert cell("table2", label, "macs").verdict == "differs"
    assert billions("table2", label) == pytest.approx(macs, abs=0.005)


def test_table3_mobilenets_lie_near_print() -> None:
    for row in table("table3").rows:
        macs = row.cells["macs"]
        if row.label.startswith("MobileNet") and row.label != "MobileNetV2 compound":
            assert macs.ratio == pytest.approx(1, abs=0.08)
    # The one row farther off: the paper prints no multipliers for it; read at 288 px it is as printed.
    compound = cell("table3", "MobileNetV2 compound", "macs")
    assert compound.ratio == pytest.approx(1.109, abs=0.001)
    assert "1.28B at 288 px" in compound.reason
    assert "1.23B with EfficientNet-Lite's rules" in compound.reason


def test_table3_resnet_rows_of_depth_and_width_look_interchanged() -> None:
    assert billions("table3", "ResNet-50 baseline") == pytest.approx(4.09, abs=0.005)
    assert billions("table3", "ResNet-50 by width (w=2)") == pytest.approx(16.12, abs=0.005)
    assert billions("table3", "ResNet-50 by depth (d=4)") == pytest.approx(14.57, abs=0.005)
    assert billions("table3", "ResNet-50 by resolution (r=2)") == pytest.approx(16.35, abs=0.005)
    assert billions("table3", "ResNet-50 by depth (d=4)") == pytest.approx(14.7, rel=0.01)  # printed for the width
    assert billions("table3", "ResNet-50 by width (w=2)") == pytest.approx(16.2, rel=0.01)  # printed for the depth


def test_table7_only_baseline_and_compound_agree() -> None:
    rows = table("table7").rows
    assert [row.cells["macs"].verdict for row in rows] == ["agrees", "differs", "differs", "differs", "agrees"]
    assert [row.cells["macs"].shown for row in rows] == ["0.39B", "1.58B", "1.45B", "1.54B", "1.80B"]


def test_table6_pets_is_a_misprint() -> None:
    pets = cell("table6", "Oxford-IIIT Pets", "test")
    assert (pets.printed, pets.measured, pets.verdict) == ("3,369", 3669, "differs")
    assert table("table6").counts == {"agrees": 23, "differs": 1}


def test_reasons_that_count_batch_norm_say_what_counting_gives() -> None:
    def statistics(name: str) -> int:
        return sum(layer.params for layer in arch.unroll(arch.network(name)) if layer.kind == "norm")

    b2 = zoo.network_size("efficientnet-b2").params + statistics("efficientnet-b2")
    assert f"{b2 / 1e6:.2f}M" == "9.18M"
    assert "(9.18M)" in cell("table2", "EfficientNet-B2", "params").reason
    resnext = zoo.network_size("resnext-101-64x4d").params + statistics("resnext-101-64x4d")
    assert f"{resnext / 1e6:.1f}M" == "83.7M"
    assert "(83.7M)" in cell("table2", "ResNeXt-101", "params").reason
    b1 = arch.network("efficientnet-b1")
    normalised = sum(layer.outputs for layer in arch.unroll(b1) if layer.kind == "norm")
    assert f"{(arch.cost(b1).macs + normalised) / 1e9:.3f}B" == "0.698B"
    assert "(0.698B)" in cell("table2", "EfficientNet-B1", "macs").reason


def test_accuracies_need_data_until_a_result_fills_them() -> None:
    assert cell("table2", "EfficientNet-B0", "top1").verdict == "needs data"
    result = Result("efficientnet-b0", "imagenet", 0.7712, 50_000, top5=0.9290, measured_at="2026-01-02")
    filled = line("table2", "EfficientNet-B0", (result,)).cells
    assert (filled["top1"].shown, filled["top1"].verdict) == ("77.12%", "agrees")
    assert (filled["top5"].shown, filled["top5"].verdict) == ("92.90%", "differs")
    assert filled["top1"].reason == "efficientnet-b0 measured on 2026-01-02 on 50,000 images."
    assert line("table2", "ResNet-50", (result,)).cells["top1"].verdict == "needs data"


def test_a_scaled_network_finds_its_own_result() -> None:
    by_depth = line("table7", "by depth (d=4)")
    assert by_depth.network is not None
    result = Result(by_depth.network, "imagenet", 0.79, 50_000)
    assert line("table7", "by depth (d=4)", (result,)).cells["top1"].verdict == "agrees"
    assert line("table7", "by width (w=2)", (result,)).cells["top1"].verdict == "needs data"


def test_a_result_on_part_of_the_images_or_on_other_data_fills_nothing() -> None:
    part = Result("efficientnet-b0", "imagenet", 0.771, 1_000)
    top1 = line("table2", "EfficientNet-B0", (part,)).cells["top1"]
    assert (top1.verdict, top1.measured) == ("needs data", None)
    assert "1,000 images. The table is about all 50,000." in top1.reason
    other = Result("efficientnet-b0", "imagenette", 0.771, 50_000)
    assert line("table2", "EfficientNet-B0", (other,)).cells["top1"].reason == ""


@pytest.mark.parametrize("name", TABLES)
def test_layouts_hold_every_row_and_every_reason(name: str) -> None:
    made = table(name)
    layout = lay_out(made)
    assert len(layout.sheets) == len(made.sections)
    for sheet in layout.sheets:
        assert [row[0] for row in sheet.rows] == [row.label for row in made.rows]
        assert {len(row) for row in sheet.rows} == {len(sheet.headings)}
    text = markdown(made)
    assert all(reason in text for reason in layout.reasons)
    records = list(csv.DictReader(io.StringIO(comma_separated(made))))
    assert len(records) == sum(made.counts.values())


def test_a_table_is_plain_data() -> None:
    made = table("table7")
    assert msgspec.convert(msgspec.to_builtins(made), Table) == made


def test_an_unknown_reproduction_lists_the_known() -> None:
    with pytest.raises(base.CompoundNetError, match="'table9'; known: table1, table2"):
        paper.reproduce("table9")


def test_tables_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; from compoundnet import paper\n"
        f"for name in {FIRST}: paper.reproduce(name)\n"
        "print(sorted({'torch', 'matplotlib', 'numpy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout.strip() == "[]"


def test_a_table_is_not_written_to_a_folder_that_is_called_like_a_file(tmp_path: Path) -> None:
    with pytest.raises(base.CompoundNetError, match=r"a\.html: table1 is written to a folder, as several files"):
        paper.write_reproduction(table("table1"), tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []
