"""The service over HTTP: images in every form of body, its answers, and what each wrong request is told."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from service_server import Running, form, running
from small_model import write_small_model

from compoundnet import runtime
from compoundnet.models import Postprocess
from compoundnet.serve.service.token import Token

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = f"Bearer {TOKEN}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    write_small_model(made / "small")
    write_small_model(
        made / "tags", postprocess=Postprocess(1.0, "sigmoid", (0.01, 0.99, 0.01, 0.01, 0.01, 0.99, 0.99))
    )
    return made


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with running({"small": folder / "small", "tags": folder / "tags"}, max_bytes=100_000, max_queue=12) as found:
        yield found


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[Running]:
    with running({"small": folder / "small"}, token=Token(TOKEN.encode())) as found:
        yield found


def image(seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(values).save(content, kind, **options)
    return content.getvalue()


def as_json(*images: dict[str, Any]) -> bytes:
    return json.dumps({"images": images}).encode()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_an_image_as_it_is_gets_the_classes_of_predict(service: Running, folder: Path) -> None:
    answer = service.predict(image())
    expected = runtime.Predictor(folder / "small", backend="torch")(Image.open(io.BytesIO(image()))).predictions
    assert answer.status == 200
    told = answer.json()
    assert told["model"] == "small"
    (found,) = told["images"]
    assert (found["name"], len(found["predictions"])) == ("image", 5)
    assert [one["label"] for one in found["predictions"]] == [one.label for one in expected]
    for one, wanted in zip(found["predictions"], expected, strict=True):
        assert one["index"] == wanted.index
        assert one["probability"] == pytest.approx(wanted.probability, abs=1e-6)
    assert service.predict(image(), "application/octet-stream").json() == told


def test_images_of_a_form_and_of_json_come_in_order_under_their_names(service: Running) -> None:
    contents = {f"{index}.png": image(index) for index in range(4)}
    single = [service.predict(content).json()["images"][0]["predictions"] for content in contents.values()]
    by_form = service.predict(*form(contents))
    named = [{"name": name, "data": base64_of(content)} for name, content in contents.items()]
    by_json = service.predict(as_json(*named), "application/json")
    for answer in (by_form, by_json):
        assert answer.status == 200
        assert [it["name"] for it in answer.json()["images"]] == list(contents)
        for it, wanted in zip(answer.json()["images"], single, strict=True):
            assert [one["index"] for one in it["predictions"]] == [one["index"] for one in wanted]
            shares = [one["probability"] for one in it["predictions"]]
            np.testing.assert_allclose(shares, [one["probability"] for one in wanted], atol=1e-6)
    unnamed = service.predict(as_json({"data": base64_of(image())}), "application/json").json()
    assert [it["name"] for it in unnamed["images"]] == ["image 1"]


def test_an_image_that_cannot_be_read_says_why_and_the_others_are_predicted(service: Running) -> None:
    answer = service.predict(*form({"a.png": image(), "b.txt": b"Dear diary", "c.png": image()[:3000]}))
    assert answer.status == 200
    first, second, third = answer.json()["images"]
    assert "error" not in first and len(first["predictions"]) == 5
    assert second == {"name": "b.txt", "error": "is not an image in a format that can be read"}
    assert third["error"].startswith("cannot be decoded")
    alone = service.predict(b"Dear diary")
    assert (alone.status, alone.json()["images"][0]["error"]) == (422, second["error"])


def test_model_and_top_are_chosen_in_the_address(service: Running) -> None:
    assert len(service.predict(image(), query="top=2").json()["images"][0]["predictions"]) == 2
    told = service.predict(image(), query="model=tags&top=1").json()
    assert told["model"] == "tags"
    labels = told["images"][0]["labels"]
    assert sorted(labels) == ["class 0", "class 2", "class 3", "class 4"]
    assert [one["threshold"] for one in told["images"][0]["predictions"]] == [0.01] * 4


def test_an_image_of_more_than_8_bits_says_what_was_assumed(service: Running) -> None:
    content = io.BytesIO()
    Image.fromarray(np.linspace(0, 4087, 60 * 50).astype(np.uint16).reshape(60, 50)).save(content, "PNG")
    (found,) = service.predict(content.getvalue()).json()["images"]
    assert found["note"].endswith("0 to 4095 is assumed, because the values are 0 to 4087.")


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "message"),
    [
        (b"", "image/png", "", 400, "the request holds no image"),
        (b"{}", "application/json", "", 400, "the JSON must be"),
        (b'{"images": []}', "application/json", "", 400, "the request holds no image"),
        (b'{"images": [{"data": "?"}]}', "application/json", "", 400, "the JSON must be"),
        (b"[" * 90_000, "application/json", "", 400, "the JSON must be"),
        (b"\xff\xfe", "application/json", "", 400, "the JSON must be"),
        (
            b"a=b",
            "application/x-www-form-urlencoded",
            "",
            415,
            "the header Content-Type says application/x-www-form-urlencoded; say",
        ),
        (b"x", "multipart/form-data", "", 400, "the form cannot be read: Missing boundary"),
        (b"x", "multipart/form-data; boundary=a", "", 400, "the form cannot be read"),
        (b"--a\r\n\r\nx", "multipart/form-data; boundary=a", "", 400, "the form cannot be read"),
        (
            b'--a\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\nz',
            "multipart/form-data; boundary=a",
            "",
            400,
            "the form cannot be read: it ends before its last boundary",
        ),
        (
            b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--a--\r\n',
            "multipart/form-data; boundary=a",
            "",
            400,
            "each part of the form must be a file",
        ),
        (bytes(100_001), "image/png", "", 413, "the request has more than 100,000 bytes, the limit"),
        (b"x", "image/png", "top=0", 400, "top must be 1 to 7, the classes of the model, got '0'"),
        (b"x", "image/png", "top=8", 400, "top must be 1 to 7"),
        (b"x", "image/png", "top=%D9%A3", 400, "top must be 1 to 7"),
        (b"x", "image/png", "modle=small", 400, "there is no parameter 'modle'; did you mean model?"),
        (b"x", "image/png", "model=smal", 404, "there is no model 'smal'; did you mean small?"),
        (b"x", "image/png", "model=" + quote("\x1b[31m"), 404, "there is no model '\\x1b[31m'; known: small, tags"),
        (b"x", "image/png", "model=" + "m" * 9000, 404, "there is no model 'mmm"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: Running, body: bytes, kind: str, query: str, status: int, message: str
) -> None:
    answer = service.predict(body, kind, query)
    assert answer.status == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(message)
    assert len(answer.json()["error"]) < 400


def test_too_many_images_of_one_request_are_refused(service: Running) -> None:
    many = {f"{index}.png": b"x" for index in range(13)}
    for body, kind in (form(many), (as_json(*[{"data": ""}] * 13), "application/json")):
        answer = service.predict(body, kind)
        assert answer.status == 413, kind
    assert service.predict(as_json(*[{"data": ""}] * 12), "application/json").status == 422


def test_names_of_clients_cannot_write_control_characters(service: Running) -> None:
    answer = service.predict(as_json({"name": "\x1b]0;x\x07\n", "data": "AAAA"}), "application/json")
    assert answer.status == 422
    assert not any(byte < 32 or byte == 127 for byte in answer.body)
    assert answer.json()["images"][0]["name"] == "\x1b]0;x\x07\n"


def test_without_the_token_only_health_is_told(locked: Running) -> None:
    for path in ("/v1/models", "/openapi.json", "/metrics", "/nothing", "/healthz/../metrics"):
        for given in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = locked.ask(path, None, **given)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    assert locked.predict(image()).status == 401
    assert locked.predict(image(), Authorization="Bearer ").status == 401
    assert locked.predict(image(), Authorization=f"{BEARER}x").status == 401
    for path in ("/healthz", "/readyz"):
        assert locked.ask(path).status == 200
    assert locked.predict(image(), Authorization=BEARER).status == 200
    assert locked.predict(image(), Authorization=f"bearer {TOKEN}").status == 200
    assert locked.ask("/v1/models", Authorization=BEARER, Host="anything.example").status == 200


def test_without_a_token_web_pages_are_kept_out(service: Running) -> None:
    assert service.ask("/v1/models", Host="rebound.example").status == 421
    assert service.predict(image(), Origin="https://elsewhere.example").status == 403
    assert service.predict(image(), Sec_Fetch_Site="cross-site").status == 403


def test_the_models_are_described(service: Running) -> None:
    told = service.ask("/v1/models").json()["models"]
    assert [(it["name"], it["classes"], it["several_labels"]) for it in told] == [
        ("small", 7, False),
        ("tags", 7, True),
    ]
    assert [(it["backend"], it["precision"]) for it in told] == [("torch", "float32")] * 2
    assert "labels" not in told[0]
    one = service.ask("/v1/models/small").json()
    assert one["labels"] == [f"class {index}" for index in range(7)]
    assert one["input"].endswith("resized to 32 px")
    assert service.ask("/v1/models/none").status == 404
    for path in ("/nothing", "/v1/models/"):
        answer = service.ask(path)
        assert answer.status == 404
        assert answer.json()["error"] == f"there is nothing at '{path}'; /openapi.json describes what there is"
    answer = service.ask("/v1/predict")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"] == "/v1/predict takes POST, not GET"


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def test_the_description_holds_every_path_and_status(service: Running, locked: Running) -> None:
    told = service.ask("/openapi.json").json()
    assert told["openapi"] == "3.1.0"
    assert set(told["paths"]) == {
        "/v1/predict", "/v1/models", "/v1/models/{name}", "/openapi.json", "/metrics", "/healthz", "/readyz",
    }  # fmt: skip
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            asked = service.ask(path.replace("{name}", "small"), b"x" if method == "post" else None)
            assert str(asked.status) in operation["responses"], path
            assert operation["operationId"] and operation["summary"]
    assert "security" not in told
    schemas = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert _references(told) <= schemas
    predict = told["paths"]["/v1/predict"]["post"]
    assert set(predict["requestBody"]["content"]) >= {"image/*", "multipart/form-data", "application/json"}
    assert predict["parameters"][0]["schema"] == {"type": "string", "enum": ["small", "tags"], "default": "small"}
    assert {"200", "400", "403", "408", "413", "421", "422", "429", "503"} <= set(predict["responses"])
    for path, (operation,) in ((path, it.values()) for path, it in told["paths"].items()):
        assert {"403", "421"} <= set(operation["responses"]), path
        assert "401" not in operation["responses"], path
    secured = locked.ask("/openapi.json", Authorization=BEARER).json()
    assert secured["security"] == [{"token": []}]
    assert secured["paths"]["/healthz"]["get"]["security"] == []
    assert set(secured["paths"]["/healthz"]["get"]["responses"]) == {"200"}
    assert set(secured["paths"]["/metrics"]["get"]["responses"]) == {"200", "401"}


def test_the_measurements_are_read_by_prometheus(folder: Path) -> None:
    with running({"small": folder / "small"}) as service:
        service.predict(*form({"a.png": image(), "b.png": image(), "c.txt": b"x"}))
        service.predict(b"x", query="model=none")
        answer = service.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    small = ("model", "small")
    assert found["compoundnet_requests_total", small, ("status", "200")] == 1
    assert found["compoundnet_requests_total", ("model", ""), ("status", "404")] == 1
    assert found["compoundnet_images_total", small] == 2
    assert found["compoundnet_unreadable_images_total", small] == 1
    assert found["compoundnet_batch_images_sum", small] == 2
    assert found["compoundnet_request_seconds_count", small] == 1
    assert (found["compoundnet_images_in_progress",], found["compoundnet_ready",]) == (0, 1)
    assert found["process_resident_memory_bytes",] > 1e6
