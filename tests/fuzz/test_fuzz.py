"""Every reader of bytes from outside, on documents that were damaged at random: a value, or a CompoundNetError.

`make fuzz` repeats this file with new seeds for an hour (FUZZ_SECONDS); `make test` takes some seconds of it, with the
same examples each time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from hostile import bounded, mutated
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from random_net import random_net, small_network
from small_model import write_small_model

from compoundnet import arch, data, models, runtime
from compoundnet.base import decode_toml
from compoundnet.base.images import UnreadableImageError, read_image
from compoundnet.base.text import decode_text
from compoundnet.data.shards import write_shards
from compoundnet.data.tables import read_table
from compoundnet.models.checkpoints import read_checkpoint
from compoundnet.models.exported import from_properties
from compoundnet.models.foreign import read_foreign
from compoundnet.models.labels import read_labels
from compoundnet.models.recognition import recognise
from compoundnet.models.tensors import state_shapes
from compoundnet.runtime.backends.torch import load_archive
from compoundnet.train.recipe import Recipe, find_recipe

_FUZZING = "FUZZ_SEED" in os.environ
_LIGHT, _HEAVY, _FEW = (2000, 300, 60) if _FUZZING else (50, 12, 4)


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=not _FUZZING,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if _FUZZING else [Phase.generate],
    )


DOCUMENTS: dict[str, tuple[type, bytes]] = {
    "network": (arch.Network, arch.network("efficientnet-b0").dumps().encode()),
    "preprocess": (models.Preprocess, models.Preprocess.authors(224).dumps().encode()),
    "postprocess": (models.Postprocess, models.Postprocess(1.5, "sigmoid", (0.1, 0.9)).dumps().encode()),
    "recipe": (Recipe, find_recipe("finetune").dumps().encode()),
}


@pytest.mark.parametrize("name", DOCUMENTS)
@examples(_LIGHT)
@given(drawn=st.data())
def test_toml(name: str, drawn: st.DataObject) -> None:
    kind, original = DOCUMENTS[name]
    content = drawn.draw(st.one_of(mutated(original), st.binary(max_size=200)))
    with bounded():
        value: object = decode_toml(content, kind, name)
        if isinstance(value, arch.Network):
            arch.cost(value)
            state_shapes(value)


@examples(_LIGHT)
@given(content=st.one_of(mutated("cat\ndog\nbird\n".encode("utf-16")), mutated(b"cat\ndog\nbird\n"), st.binary()))
def test_labels_and_text(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "labels.txt"
    file.write_bytes(content)
    with bounded():
        read_labels(file, 3)
    with contextlib.suppress(ValueError):
        decode_text(content)


LISTS = [
    b"path,label,split\na.jpg,cat,train\nb.jpg,dog,test\nc.jpg,cat,train\n",
    b"filename;cat;dog\na.jpg;0;1\nb.jpg;1;1\n",
    b"a.jpg 0\nb.jpg 1\nc.jpg 1\n",
    b"image\ttags\na.jpg\t['x', 'y']\nb.jpg\tx|y\n",
    b'{"file_name": "a.jpg", "label": "x"}\n{"file_name": "b.jpg", "label": ["x", null], "more": {"y": 1e5}}\n',
]


@examples(_LIGHT)
@given(content=st.one_of(*map(mutated, LISTS), st.binary(max_size=200)))
def test_lists(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "lists"
    folder.mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).touch()
    for name in ("list.csv", "list.jsonl"):
        (folder / name).write_bytes(content)
        with bounded():
            read_table(folder / name)
        with bounded():
            data.open_dataset(folder / name, allow_missing=True).text()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    made = write_small_model(
        tmp_path_factory.mktemp("model") / "small", classes=3, postprocess=models.Postprocess(1, "sigmoid", (0.1,) * 3)
    )
    (made.folder / "SHA256SUMS").unlink()  # otherwise all damage to the weights is found by it
    return made


@examples(_LIGHT)
@given(drawn=st.data())
def test_model_folders(model: models.ModelFolder, drawn: st.DataObject) -> None:
    folder = model.folder.with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model.folder, folder)
    file = folder / drawn.draw(st.sampled_from(sorted(file.name for file in folder.iterdir())))
    file.write_bytes(drawn.draw(mutated(file.read_bytes())))
    with bounded():
        found = models.read_folder(folder)
        models.load(found)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("exported")
    net = random_net(small_network().replace(num_classes=3))
    for name, form in (("small.onnx", "onnx"), ("small.pt2", "torch")):
        runtime.export(net, folder / name, format=form, labels=["a", "b", "c"])
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["small.onnx", "small.pt2"])
@examples(_HEAVY)
@given(drawn=st.data())
def test_exported_files(name: str, exported: dict[str, bytes], drawn: st.DataObject, tmp_path_factory: Any) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / name
    file.write_bytes(drawn.draw(mutated(exported[name])))
    with bounded():
        found = models.open_exported(file)
        if name == "small.pt2":
            load_archive(found)


@examples(_LIGHT)
@given(drawn=st.data())
def test_exported_metadata(model: models.ModelFolder, drawn: st.DataObject) -> None:
    whole = models.ExportedModel(
        model.name, model.network, model.preprocess, ("a", "b", "c"), model.postprocess, "float32", False, True,
        Path("a.onnx"),
    ).properties()  # fmt: skip
    for _ in range(drawn.draw(st.integers(1, 3))):
        key = drawn.draw(st.sampled_from(sorted(whole)))
        whole[key] = drawn.draw(mutated(whole[key].encode())).decode(errors="replace")
        if drawn.draw(st.integers(0, 9)) == 0:
            del whole[key]
            break
    with bounded():
        from_properties(whole, Path("a.onnx"))


def _torch_files() -> list[bytes]:
    state = {"stem.conv.weight": torch.zeros(8, 3, 3, 3), "stem.norm.weight": torch.ones(8)}
    files = []
    for content in (state, {"state_dict": state, "args": {"lr": 0.1}, "epoch": 3}):
        for zipped in (True, False):
            written = io.BytesIO()
            torch.save(content, written, _use_new_zipfile_serialization=zipped)
            files.append(written.getvalue())
    return files


@examples(_LIGHT)
@given(content=st.one_of(*map(mutated, _torch_files())))
def test_checkpoints(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "weights.pth"
    file.write_bytes(content)
    with bounded():
        read_checkpoint(file)


_SIDES = st.lists(st.one_of(st.integers(0, 64), st.sampled_from([0, 1, 1 << 31, 1 << 62])), max_size=5)


@examples(_FEW)  # each is compared with every network known here
@given(drawn=st.data())
def test_names_and_shapes(drawn: st.DataObject) -> None:
    shapes = dict(state_shapes(arch.network(drawn.draw(st.sampled_from(["efficientnet-b0", "mobilenet-v2"])))))
    names = sorted(shapes)
    for _ in range(drawn.draw(st.integers(1, 4))):
        name = drawn.draw(st.sampled_from(names))
        match drawn.draw(st.sampled_from(["shape", "remove", "rename", "add"])):
            case "shape":
                shapes[name] = tuple(drawn.draw(_SIDES))
            case "remove":
                shapes.pop(name, None)
            case "rename":
                shapes[drawn.draw(mutated(name.encode())).decode(errors="replace")] = shapes.pop(name, (1,))
            case "add":
                shapes[drawn.draw(st.text(max_size=40))] = tuple(drawn.draw(_SIDES))
    with bounded():
        recognise(shapes, "a.pth")


def _images() -> list[bytes]:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    files = []
    for form in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "ICO", "TGA", "JPEG2000"):
        content = io.BytesIO()
        image.save(content, form)
        files.append(content.getvalue())
    return files


@examples(_LIGHT)
@given(content=st.one_of(*map(mutated, _images())))
def test_images(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "image.png"
    file.write_bytes(content)
    with bounded():
        try:
            assert read_image(file).mode == "RGB"
        except UnreadableImageError as error:
            assert str(error).startswith(str(file))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    split = data.open_dataset("digits").split("test")
    for number in range(8):
        (folder / "digits" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        split.image(number).save(folder / "digits" / str(number % 2) / f"{number}.png")
    return write_shards(data.open_dataset(folder / "digits"), folder / "shards")


@examples(_LIGHT)
@given(drawn=st.data())
def test_shards(shards: Path, drawn: st.DataObject) -> None:
    folder = shards.with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(shards, folder)
    file = folder / drawn.draw(st.sampled_from(sorted(file.name for file in folder.iterdir())))
    file.write_bytes(drawn.draw(mutated(file.read_bytes())))
    with bounded():
        for split in data.open_dataset(folder).splits.values():
            for index in range(len(split)):
                split.image(index)


async def _ask(app: Any, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    messages: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return sent.pop(0) if len(sent) > 1 else sent[0]

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query, "headers": [(b"host", b"127.0.0.1:8000"), *headers], "scheme": "http",
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    return int(messages[0]["status"])


@pytest.fixture(scope="module")
def app(model: models.ModelFolder) -> Callable[..., Any]:
    from compoundnet.serve.app import create_app

    return create_app([str(model.folder)], 8000)


_QUERIES = ["network=efficientnet-b0&phi=1", "network=efficientnet-b0&max_macs=1G&max_params=5M", "model=m&name=a.jpg"]
_HEADERS = st.lists(
    st.tuples(st.sampled_from([b"origin", b"range", b"content-length", b"accept"]), st.binary(max_size=20)), max_size=3
)


@examples(_LIGHT)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "BREW"]),
    path=st.one_of(
        st.sampled_from(["/api/scale", "/api/plan", "/api/explain", "/api/choices", "/"]),
        st.text(max_size=30).map(lambda text: "/" + quote(text)),
        st.just("/../../etc/passwd"),
    ),
    query=st.one_of(*[mutated(query.encode()) for query in _QUERIES]),
    headers=_HEADERS,
    body=st.binary(max_size=2000),
)
def test_http_requests(
    app: Any, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    with bounded():
        assert asyncio.run(_ask(app, method, path, query, headers, body)) < 500


@examples(_HEAVY)
@given(content=st.one_of(*map(mutated, _images())))
def test_uploads(app: Any, model: models.ModelFolder, content: bytes) -> None:
    query = f"model={quote(str(model.folder))}&name=a.jpg".encode()
    with bounded():
        assert asyncio.run(_ask(app, "POST", "/api/explain", query, [], content)) < 500


@pytest.fixture(scope="module")
def service(model: models.ModelFolder) -> Iterator[Any]:
    from service_server import running

    with running({"m": model.folder}, max_bytes=100_000) as found:
        yield found


_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n%s\r\n'
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="b.png"\r\n\r\nno image\r\n--x--\r\n'
)
_JSON = b'{"images": [{"name": "a", "data": "%s"}, {"data": "AAAA"}]}'


@examples(_LIGHT)
@given(
    kind=st.one_of(
        st.sampled_from([b"multipart/form-data; boundary=x", b"application/json", b"image/png", b""]),
        mutated(b"multipart/form-data; boundary=x"),
    ),
    body=st.one_of(
        mutated(_FORM.replace(b"%s", _images()[0])),
        mutated(_JSON.replace(b"%s", base64.b64encode(_images()[0]))),
        *map(mutated, _images()[:2]),
    ),
    query=st.one_of(mutated(b"model=m&top=2"), st.just(b"top=1")),
)
def test_requests_of_the_service(service: Any, kind: bytes, body: bytes, query: bytes) -> None:
    header = kind.decode("latin-1").translate(dict.fromkeys(range(32)))  # http.client refuses the others
    with bounded():
        answer = service.predict(body, header, quote(query, safe="=&"))
        assert answer.status < 500
        assert json.loads(answer.body)


_CONFIGURATIONS: list[dict[str, object]] = [
    {"architecture": "efficientnet_b0", "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.875}},
    {"architecture": "efficientnet_b0", "pretrained_cfg": {"mean": [0.5], "std": [0.5]}, "label_names": ["a", "b"]},
    {"model_type": "efficientnet", "id2label": {"0": "a"}, "image_size": 224},
]


@examples(_FEW)
@given(content=st.one_of(*(mutated(json.dumps(stated).encode()) for stated in _CONFIGURATIONS)))
def test_configurations_of_the_hub(
    content: bytes, model: models.ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hub"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(model.weights, folder / "model.safetensors")
    (folder / "config.json").write_bytes(content)
    with bounded():
        read_foreign(folder)
