"""The report in Chromium: narrow and wide, light and dark, on paper, and by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator

import browser
import pytest
from figure_study import figure_study
from given_times import given_times

from compoundnet import paper
from compoundnet.paper import latency_table, registry
from compoundnet.train.results import Result

SIZES = [
    (390, 844, True),
    (1280, 800, False),
    pytest.param(390, 844, False, marks=pytest.mark.slow),
    pytest.param(1280, 800, True, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. With results of both kinds, so that every part of the page is there."""
    folder = tmp_path_factory.mktemp("report")
    figure_study(folder / "study", 8, models=True)
    evaluations = (Result("efficientnet-b0", "cifar10", 0.9808, 10_000, model="mine", measured_at="2026-01-02"),)
    results = paper.Results(evaluations, paper.read_results(folder).studies, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency_table, "time_groups", lambda _: given_times({"resnet-152": 0.4, "efficientnet-b1": 0.05}))
        patch.setitem(registry._REPRODUCTIONS, "table3", ("tables", "no_such_function"))
        made = paper.make_report(results, quick=True, without=["table6"])
    file = folder / "report.html"
    file.write_bytes(made.html)
    yield file.as_uri()


@pytest.mark.parametrize(("width", "height", "dark"), SIZES)
def test_it_fits_loads_and_complains_of_nothing(report: str, width: int, height: int, dark: bool) -> None:
    with browser.page(width, height, dark=dark) as watched:
        watched.page.goto(report)
        watched.page.wait_for_load_state("networkidle")
        watched.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert watched.errors == []
        assert watched.overflow() <= 0
        assert watched.broken_pictures() == []
        assert watched.broken_links() == []
        pictures, described = watched.page.evaluate(
            "[document.images.length, [...document.images].filter(each => each.alt.length > 40).length]"
        )
        assert pictures == described == 8
        ground = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is not dark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(report: str, dark: bool) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, AA), of every colour of text that the page uses."""
    with browser.page(1280, 800, dark=dark) as watched:
        watched.page.goto(report)
        contrasts = watched.contrasts()
        assert len(contrasts) >= 5
        assert {pair for pair, contrast in contrasts.items() if contrast < 4.5} == set()


def test_contents_and_tables_are_reached_by_keyboard(report: str) -> None:
    with browser.page(390, 844) as watched:
        page = watched.page
        page.emulate_media(reduced_motion="reduce")  # links jump
        page.goto(report)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # seen when focused
        targets, regions = set(), set()
        for _ in range(40):
            page.keyboard.press("Tab")
            target, region = page.evaluate(
                "[document.activeElement.getAttribute('href'), document.activeElement.getAttribute('aria-label')]"
            )
            targets.add(target)
            regions.add(region)
        assert {f"#{name}" for name in paper.names()} <= targets
        assert "Verdicts by table and figure" in regions
        link = page.locator('nav a[href="#figure8"]')
        link.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**#figure8")
        assert abs(page.evaluate("document.getElementById('figure8').getBoundingClientRect().top")) < 60
        details = page.locator("#figure8 summary")
        details.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('#figure8 details').open")


def test_a_wide_table_scrolls_within_itself_and_keeps_its_first_column(report: str) -> None:
    with browser.page(390, 844) as watched:
        watched.page.goto(report)
        left, moved = watched.page.evaluate(
            """() => { const box = document.querySelector('#table2 .scroll'); box.scrollLeft = 200;
                 return [box.querySelector('tbody th').getBoundingClientRect().left
                         - box.getBoundingClientRect().left, box.scrollLeft]; }"""
        )
        assert moved == 200
        assert 0 <= left < 4


def test_it_prints(report: str) -> None:
    with browser.page(1280, 800) as watched:
        watched.page.goto(report)
        watched.page.emulate_media(media="print")
        assert watched.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert watched.page.pdf(format="A4").startswith(b"%PDF")
