"""The report: one file that needs nothing else, right about what it counts, and whole where a section fails."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path

import pytest
from given_times import given_times

from compoundnet import base, paper
from compoundnet.paper import latency_table, registry
from compoundnet.paper.report_sections import ReportSection
from compoundnet.runtime.timing.benchmark import Benchmark

MEANS = {"resnet-152": 0.4, "efficientnet-b1": 0.05, "amoebanet-b": 16.0, "efficientnet-b7": 4.0}


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_groups(groups: tuple[str, ...]) -> dict[str, Benchmark]:
        names = ("resnet-152", "efficientnet-b1") if len(groups) == 1 else tuple(MEANS)
        return given_times({name: MEANS[name] for name in names})

    monkeypatch.setattr(latency_table, "time_groups", time_groups)


@pytest.fixture(scope="module")
def quick() -> paper.Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency_table, "time_groups", lambda _: given_times({"resnet-152": 0.4, "efficientnet-b1": 0.05}))
        return paper.make_report(quick=True)


def section(made: paper.Report, name: str) -> ReportSection:
    return next(one for one in made.sections if one.name == name)


def test_it_holds_every_table_and_figure_of_the_paper(quick: paper.Report) -> None:
    names = {f"{kind}{number}" for kind in ("table", "figure") for number in range(1, 9)}
    assert {one.name for one in quick.sections} == names
    page = quick.html.decode()
    for name in names:
        assert f'<section id="{name}"' in page
        assert f"compoundnet reproduce {name}" in page


def test_it_needs_no_other_file_and_stays_small(quick: paper.Report) -> None:
    page = quick.html.decode()
    loaded = re.findall(r'(?:src|srcset)="([^"]{0,30})|<link[^>]*href="([^"]{0,30})|url\(([^)]{0,30})', page)
    assert loaded and all(address.startswith("data:") for found in loaded for address in found if address)
    assert "<script" not in page
    assert len(quick.html) < 5e6


def test_its_counts_are_those_of_the_tables(quick: paper.Report) -> None:
    facts = quick.facts()
    counted: Counter[str] = Counter()
    for one in quick.sections:
        if isinstance(one.made, paper.Table):
            counted.update(one.made.counts)
    assert {name: count for name, count in facts.tables.items() if count} == counted
    assert sum(facts.figures.values()) == 8
    assert f"<strong>{counted['differs']}</strong> differ" in quick.html.decode()


def test_it_says_what_quick_left_out(quick: paper.Report) -> None:
    # Two latencies and a speedup of Table 4 are printed and not timed.
    assert quick.facts().skipped_by_quick == 3
    assert "3 of the numbers that need data were left out by" in html.unescape(quick.html.decode())
    assert paper.make_report(without=[n for n in paper.names() if n != "table4"]).facts().skipped_by_quick == 0


def test_every_printed_figure_and_every_reason_is_on_the_page(quick: paper.Report) -> None:
    page = html.unescape(quick.html.decode())
    for one in quick.sections:
        if isinstance(one.made, paper.Table):
            for row in one.made.rows:
                for cell in row.cells.values():
                    assert cell.reason in page
                    assert cell.printed is None or f">{cell.printed}</td>" in page
        elif one.made is not None:
            assert one.made.description in page and one.made.claim in page


def test_a_section_that_fails_does_not_sink_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [name for name in paper.names() if name not in ("table1", "table2", "figure2")]
    monkeypatch.setitem(registry._REPRODUCTIONS, "table1", ("tables", "no_such_function"))
    monkeypatch.setitem(registry._REPRODUCTIONS, "figure2", ("no_such_module", "draw"))
    made = paper.make_report(without=others)
    assert made.failed == ("table1", "figure2")
    assert set(made.left_out) == set(others)
    assert section(made, "table2").made is not None
    page = html.unescape(made.html.decode())
    assert "No module named 'compoundnet.paper.no_such_module'" in page
    assert "could not be made" in page and "Left out of this report." in page


def test_what_people_write_cannot_change_the_page(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(
        '{"network": "<script>x</script>", "dataset": "imagenet", "top1": 0.5, "count": 50000, "by": "<b>Eve</b>"}'
    )
    others = [name for name in paper.names() if name != "table1"]
    page = paper.make_report(paper.read_results(tmp_path), without=others).html.decode()
    assert "<script>" not in page and "&lt;script&gt;x" in page
    assert "<b>Eve" not in page


def test_the_commands_on_the_page_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    results = paper.Results(folder=tmp_path / "my results")
    made = paper.make_report(results, without=[name for name in paper.names() if name != "table1"])
    page = html.unescape(made.html.decode())
    for name in ("table1", "all"):
        assert f"compoundnet reproduce {name} --results '{tmp_path / 'my results'}'" in page


def test_an_unknown_name_to_leave_out_is_refused() -> None:
    with pytest.raises(base.CompoundNetError, match="'table9'"):
        paper.make_report(without=["table9"])
