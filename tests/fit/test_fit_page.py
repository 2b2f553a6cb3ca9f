"""The report of a fit in Chromium: narrow and wide, light and dark, on paper, and by keyboard alone."""

from __future__ import annotations

from pathlib import Path

import browser
import pytest
from grey_images import images

from compoundnet.fit import Answer, Candidate, Fit, HeldOut, Limits, Rung, Screened, WrongImage, write_fit_report
from compoundnet.train import Result


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its address. Every part of the page is there."""
    data, screened = images(), list[Screened]()
    for number, side in enumerate((32, 64, 96, 128)):
        one = Candidate("efficientnet-lite0", side, "float32", 4_000_000, side**2 * 7000, 10**7, 16 * 10**6)
        slow = f"more than {8} ms" if side == 128 else None
        screened.append(Screened(one, 2.0 * number + 2.5, 0.5 + 0.1 * number, slow, 3.0))
    best = screened[2].candidate
    test = data.split("test")
    wrong = tuple(WrongImage(test.image_name(index), index, "dark", "light", 0.9) for index in range(5))
    answer = Answer(
        best, "best", "best.onnx", True, 0.7, 6.6, 16 * 10**6, 1.0, None, 0,
        HeldOut(0.75, 0.7, 18, "a teacher"), True,
        Result("efficientnet-lite0", "greys", 0.8, 30), (0.6, 0.9), wrong,
    )  # fmt: skip
    rungs = (
        Rung(2, 10, tuple((one.candidate, 0.5) for one in screened[:3])),
        Rung(10, 10, ((best, 0.75),)),
    )
    fit = Fit(
        data.name, data.text(), "0", Limits(max_latency=8, max_params=5e6, max_size=2e7), 1, "a processor",
        screened=tuple(screened), rungs=rungs, answer=answer, finished=True, notes=("a note",),
        made_at="2026-01-02T03:04:05", version="1",
    )  # fmt: skip
    file: Path = tmp_path_factory.mktemp("report") / "report.html"
    write_fit_report(fit, file, data)
    return file.as_uri()


@pytest.mark.parametrize(
    ("enough", "entrants", "said"),
    [
        (None, 3, "the larger of those that are equal within one standard error; accuracy is"),
        (0.905, 3, "the fastest of those that reach 90.5 %; accuracy is"),
        (None, 1, "<p>One candidate was fine-tuned alone; accuracy is"),
    ],
)
def test_it_says_what_goes_on_in_a_race(tmp_path: Path, enough: float | None, entrants: int, said: str) -> None:
    one = Candidate("efficientnet-lite0", 32, "float32", 4_000_000, 7_000_000, 10**7, 16 * 10**6)
    state = Fit(
        "greys", "", "0", Limits(min_accuracy=enough), 1, "a processor", screened=(Screened(one, 2.0, 0.5),),
        rungs=(Rung(2, 10, entrants * ((one, 0.5),)),),
    )  # fmt: skip
    write_fit_report(state, tmp_path / "report.html", None)
    assert said in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (390, False),
        (1280, True),
        pytest.param(390, True, marks=pytest.mark.slow),
        pytest.param(1280, False, marks=pytest.mark.slow),
    ],
)
def test_it_fits_loads_and_is_legible(report: str, width: int, dark: bool) -> None:
    with browser.page(width, 844, dark=dark) as watched:
        watched.page.goto(report)
        watched.page.wait_for_load_state("networkidle")
        assert watched.errors == []
        assert watched.overflow() <= 0
        assert watched.broken_pictures() == []
        assert watched.broken_links() == []
        shown, described = watched.page.evaluate(
            "[document.images.length, [...document.images].filter(each => each.alt.length > 40).length]"
        )
        assert shown == described == 8
        ground = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is not dark
        assert {pair for pair, contrast in watched.contrasts().items() if contrast < 4.5} == set()


def test_contents_and_tables_are_reached_by_keyboard_and_it_prints(report: str) -> None:
    with browser.page(390, 844) as watched:
        page = watched.page
        page.emulate_media(reduced_motion="reduce")  # links jump
        page.goto(report)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # seen when focused
        reached: set[str | None] = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            reached |= set(
                page.evaluate(
                    "[document.activeElement.getAttribute('href'), document.activeElement.getAttribute('aria-label')]"
                )
            )
        assert {"#answer", "#race", "#mistakes", "#next", "Images of each class", "Candidates", "Race"} <= reached
        assert {"Accuracy against latency", "Accuracy against parameters"} <= reached
        page.locator('nav a[href="#candidates"]').focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**#candidates")
        assert abs(page.evaluate("document.getElementById('candidates').getBoundingClientRect().top")) < 60
        left, moved = page.evaluate(
            """() => { const box = document.querySelector('#candidates .scroll'); box.scrollLeft = 100;
                 return [box.querySelector('tbody th').getBoundingClientRect().left
                         - box.getBoundingClientRect().left, box.scrollLeft]; }"""
        )
        assert moved == 100 and 0 <= left < 4, "a wide table scrolls within itself and keeps its first column"
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert page.pdf(format="A4").startswith(b"%PDF")
