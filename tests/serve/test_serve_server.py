"""The server: who is let in, what it keeps to itself, how it starts and stops."""

import io
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import run
from page_server import Server, served
from PIL import Image
from small_model import write_small_model

import compoundnet.serve
from compoundnet import runtime


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as running:
        yield running


def test_the_page_comes_from_here_alone(server: Server) -> None:
    page = server.ask("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert policy["frame-ancestors"] == "'none'"
    files = list((Path(compoundnet.serve.__file__).parent / "static").iterdir())
    assert len(files) >= 3
    for file in files:
        found = set(re.findall(r"https?://[^\"'\s]+", file.read_text()))
        assert found <= {"http://www.w3.org/2000/svg"}, file.name


def test_only_the_loopback_address_listens(server: Server) -> None:
    # 0.0.0.0 would answer on 127.0.0.2 too.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/choices"])
def test_a_name_that_was_made_to_point_here_is_refused(server: Server, path: str) -> None:
    for host in (f"rebound.example:{server.port}", "rebound.example", f"127.0.0.1:{server.port}.rebound.example"):
        assert server.ask(path, Host=host).status == 421, host
    assert server.ask(path, Host=f"localhost:{server.port}").status == 200


def test_another_page_in_the_browser_is_refused(server: Server) -> None:
    asked = "/api/explain?model=efficientnet-lite0"
    for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1:{server.port}"):
        answer = server.ask(asked, b"x", Origin=origin)
        assert (answer.status, answer.json()) == (403, {"error": "another page asked for this; only this page may"})
    assert server.ask(asked, b"x", Sec_Fetch_Site="cross-site").status == 403
    assert server.ask(asked, b"x", Sec_Fetch_Site="same-site").status == 403  # another port of this machine
    assert server.ask("/api/choices", Sec_Fetch_Site="cross-site").status == 403
    # The page's own request gets as far as the image, which is none.
    own = server.ask(asked, b"x", Origin=server.address, Sec_Fetch_Site="same-origin")
    assert own.status == 400
    assert "not an image" in own.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status"), [("/nothing", None, 404), ("/../app.py", None, 404), ("/app.js", b"x", 405)]
)
def test_what_is_not_there_is_said_as_json(server: Server, path: str, body: bytes | None, status: int) -> None:
    answer = server.ask(path, body)
    assert answer.status == status
    assert answer.json()["error"]


def test_a_port_in_use_is_named(server: Server) -> None:
    done = run("serve", "--port", str(server.port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"error: port {server.port} is in use, perhaps by another `compoundnet serve`; --port"
    )


def test_a_model_that_is_not_known_is_said_before_the_page_starts() -> None:
    done = run("serve", "--port", "0", "--model", "efficientnet-lite00")
    assert (done.returncode, done.stdout) == (1, "")
    assert "efficientnet-lite0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_did_not_keep_its_feature_map_is_told_how_to_make_one(tmp_path: Path) -> None:
    small = write_small_model(tmp_path / "small").folder
    runtime.export(small, tmp_path / "plain.onnx")
    done = run("serve", "--port", "0", "--model", tmp_path / "plain.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'plain.onnx'} did not keep the feature map")
    assert "`compoundnet export --with-cam` writes an ONNX file that does" in done.stderr
    assert len(done.stderr.splitlines()) == 1


SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_ctrl_c_and_sigterm_stop_it_with_exit_code_0_and_no_word(number: signal.Signals) -> None:
    with served() as running:
        assert running.ask("/").status == 200
        code, stderr = running.interrupt(number)
    assert (code, stderr) == (0, "Open it in a browser; Ctrl-C stops it.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_they_stop_it_while_an_image_is_explained(number: signal.Signals, tmp_path: Path) -> None:
    for place in ("code", "tmp"):
        (tmp_path / place).mkdir()
    # An image that takes an hour, and says when it is begun.
    (tmp_path / "code" / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "from PIL import Image\n"
        "def slow(*_):\n"
        f"    pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
        "    time.sleep(3600)\n"
        "Image.Image.thumbnail = slow\n"
    )
    places = os.pathsep.join(filter(None, (str(tmp_path / "code"), os.environ.get("PYTHONPATH"))))
    photo = io.BytesIO()
    Image.new("RGB", (90, 60)).save(photo, "PNG")
    with served(PYTHONPATH=places, TMPDIR=str(tmp_path / "tmp")) as running, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(running.ask, "/api/explain?model=efficientnet-lite0&name=slow.png", photo.getvalue())
        while not (tmp_path / "begun").exists():
            assert not asked.done(), asked.result()
            time.sleep(0.05)
        code, stderr = running.interrupt(number)  # waits a minute at most
        answer = asked.result(timeout=60)
    assert (code, stderr) == (0, "Open it in a browser; Ctrl-C stops it.\n")
    assert answer.status == 503
    assert answer.json() == {"error": "`compoundnet serve` was stopped before the image was explained"}
    assert list((tmp_path / "tmp").rglob("*")) == []


def test_models_in_a_temporary_folder_are_removed(tmp_path: Path) -> None:
    """Where the cache cannot be written, until the process ends, which runs no finalizers."""
    (tmp_path / "tmp").mkdir()
    options = ["--api", "--backend", "torch", "--threads", "1"]
    with served(options=options, COMPOUNDNET_CACHE="/dev/null/cache", TMPDIR=str(tmp_path / "tmp")) as running:
        assert [path.name.startswith("compoundnet-") for path in (tmp_path / "tmp").iterdir()] == [True]
        code, stderr = running.interrupt(signal.SIGTERM)
    assert code == 0, stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_its_libraries_it_names_the_extra(tmp_path: Path) -> None:
    # A meta path that knows no uvicorn, as where the extra is not installed.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'uvicorn' else find(name, package)\n"
    )
    done = run("serve", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "error: the page needs uvicorn: pip install 'compoundnet[serve]'\n"


def test_a_client_that_leaves_in_the_middle_of_an_upload_prints_nothing(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model")
    with served(model.folder) as running:
        start = f"POST /api/explain?model={model.folder} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n"
        for sent in (0, 10):
            with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
                connection.sendall(f"{start}Content-Length: 1000\r\n\r\n".encode() + b"x" * sent)
        assert running.ask("/api/choices").status == 200
        assert running.interrupt() == (0, "Open it in a browser; Ctrl-C stops it.\n")
