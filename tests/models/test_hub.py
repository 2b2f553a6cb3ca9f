"""The hub: repositories fetched and pushed, from a server on this machine, and from huggingface_hub's cache."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command
import hub_server
import huggingface_hub
import pytest
import torch
from hub_server import Hub
from safetensors.torch import save_file

from compoundnet import arch
from compoundnet.arch import Norm, scale
from compoundnet.base import CompoundNetError
from compoundnet.models import ModelFolder, Preprocess, load, read_folder, write_folder, write_repository
from compoundnet.models.hub import Repository, is_hub_name, needed_files, parse_hub_name
from compoundnet.models.hub_repository import timm_model
from compoundnet.models.layouts import layout, to_layout
from compoundnet.models.layouts.timm import timm_name
from compoundnet.nn import build

B0 = arch.network("efficientnet-b0").replace(num_classes=3)
LABELS = ("cat", "dog", "tiger cat")
README = "---\nlicense: mit\n---\n# pets\n\nTrained on pets.\n"


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    torch.manual_seed(0)
    result = {"network": "efficientnet-b0", "dataset": "my pets", "top1": 0.9125, "count": 80}
    preprocess = Preprocess(size=224, crop=0.9, fit="squash", interpolation="bilinear", mean=(0.5,), std=(0.25,))
    folder = tmp_path_factory.mktemp("models") / "pets"
    extras = {"result.json": json.dumps(result).encode(), "log.csv": b"epoch\n1\n"}
    return write_folder(folder, B0, build(B0).state_dict(), preprocess, labels=LABELS, readme=README, extras=extras)


@pytest.fixture(scope="module")
def repository(pets: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(pets, tmp_path_factory.mktemp("repositories") / "pets", "me/pets")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.running() as server:
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(*arguments: str | Path, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line with a cache of its own, without a proxy or token unless given."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    own = {"HF_HOME": str(home / "hf"), "COMPOUNDNET_CACHE": str(home / "own"), "HF_HUB_DISABLE_XET": "1"}
    return command.forked(list(map(str, arguments)), Path.cwd(), {**kept, **own, **environment})


# What is pushed


def test_the_repository_holds_our_files_and_timms(pets: ModelFolder, repository: Path) -> None:
    assert {path.name for path in repository.iterdir()} == {
        "network.toml", "weights.safetensors", "labels.txt", "preprocess.toml", "README.md", "SHA256SUMS",
        "result.json", "config.json", "model.safetensors",
    }  # fmt: skip
    again = read_folder(repository, pets.name)
    assert (again.network, again.preprocess, again.labels) == (pets.network, pets.preprocess, pets.labels)


def test_timm_loads_it_and_gives_the_same_logits(pets: ModelFolder, repository: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    theirs = timm.create_model(f"local-dir:{repository}", pretrained=True).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        expected = load(pets)(image)
        assert (theirs(image) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert theirs.pretrained_cfg["label_names"] == list(LABELS)
    assert timm.data.resolve_model_data_config(theirs) == {
        "input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "squash",
        "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip


@pytest.mark.slow
def test_timm_loads_it_by_name_from_the_cache_of_the_hub(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    cached = tmp_path / "hub" / "models--me--pets"
    shutil.copytree(repository, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    program = (
        "import timm; model = timm.create_model('hf-hub:me/pets', pretrained=True);"
        "print(model.num_classes, model.pretrained_cfg['label_names'][2])"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    assert done.stdout.strip() == "3 tiger cat"


def test_the_model_card_says_what_it_is(repository: Path) -> None:
    _, metadata, text = (repository / "README.md").read_text().split("---\n", 2)
    card: Any = huggingface_hub.ModelCard(f"---\n{metadata}---\n")
    found = card.data.to_dict()
    assert (found["library_name"], found["pipeline_tag"]) == ("timm", "image-classification")
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"] == {"name": "my pets", "type": "my-pets"}
    assert result["metrics"] == [{"type": "accuracy", "value": 0.9125, "name": "top-1"}]
    for said in ("my pets: top-1 91.25 %", "cat, dog, tiger cat", "224 x 224 px", "hf-hub:me/pets", "Trained on pets."):
        assert said in text
    assert "license: mit" not in text  # the metadata of the old README are no text


def test_a_network_that_timm_lacks_is_pushed_in_our_form_alone(tmp_path: Path) -> None:
    small = scale(B0, width=0.3)
    model = write_folder(tmp_path / "m", small, build(small).state_dict(), Preprocess.authors(224), readme="# m\n")
    said: list[str] = []
    repository = write_repository(model, tmp_path / "repository", "me/m", notify=said.append)
    assert "config.json" not in files_of(repository)
    assert "library_name: compoundnet" in (repository / "README.md").read_text()
    assert "only compoundnet opens it" in said[0]
    with pytest.raises(CompoundNetError, match="exists already"):
        write_repository(model, repository, "me/m")


@pytest.mark.parametrize("name", arch.networks())
def test_timm_has_every_model_that_we_name_for_it(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    known = arch.network(name)
    for network in (known, known.replace(padding="symmetric", norm=Norm(eps=1e-5, momentum=0.1))):
        found = timm_model(network)
        if found is not None:
            assert timm.is_model(found[0])
            assert layout(found[1]).adapt(network).padding == network.padding
    if name.startswith("efficientnet"):
        assert timm_model(known) == (timm_name(name, "timm"), "timm")


def test_a_norm_that_timm_does_not_have_is_not_its_model() -> None:
    assert timm_model(B0.replace(norm=Norm(eps=1e-4, momentum=0.1))) is None


# Over the network


def test_push_then_predict_and_fetch(hub: Hub, pets: ModelFolder, tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    import PIL.Image

    PIL.Image.new("RGB", (50, 40), "red").save(image)
    at_hub = {"HF_ENDPOINT": hub.address}
    done = run(
        "models",
        "push",
        pets.folder,
        "hf-hub:me/pets",
        "--json",
        home=tmp_path / "a",
        HF_TOKEN=hub_server.TOKEN,
        **at_hub,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == f"{hub.address}/me/pets"
    assert hub.repositories["me/pets"]["weights.safetensors"] == pets.weights.read_bytes()
    assert "model.safetensors" in hub.repositories["me/pets"]

    home = tmp_path / "b"
    done = run("predict", "hf-hub:me/pets", image, "--json", home=home, **at_hub)
    assert done.returncode == 0, done.stderr
    expected = run("predict", pets.folder, image, "--json", home=home)
    assert json.loads(done.stdout)[0]["predictions"] == json.loads(expected.stdout)[0]["predictions"]
    assert read_folder(home / "own" / "models" / "hub" / "me--pets").labels == LABELS
    assert not any("resolve" in one and "model.safetensors" in one for one in hub.requests)  # ours alone is fetched
    hub.requests.clear()
    assert run("predict", "hf-hub:me/pets", image, home=home, **at_hub).returncode == 0
    assert hub.requests == []  # the second time nothing is asked


def test_repositories_of_timm_and_transformers_are_fetched_with_labels_and_preprocessing(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    theirs = files_of(repository)
    hub.repositories["x/timm"] = {name: theirs[name] for name in ("config.json", "model.safetensors")}
    done = run("models", "fetch", "hf-hub:x/timm", "--json", home=tmp_path, HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["notes"] == ["took timm's tf_efficientnet_b0 (layout timm), as architecture in config.json says"]
    found = read_folder(told["folder"])
    assert (found.labels, found.preprocess.fit, found.preprocess.std) == (LABELS, "squash", (0.25,) * 3)
    assert f"commit {hub.commit('x/timm')}" in (found.folder / "README.md").read_text()

    save_file(
        to_layout(build(B0).state_dict(), B0, layout("transformers")), tmp_path / "model.safetensors", {"format": "pt"}
    )
    hub.repositories["x/transformers"] = {
        "config.json": json.dumps({"model_type": "efficientnet", "id2label": dict(enumerate(LABELS))}).encode(),
        "model.safetensors": (tmp_path / "model.safetensors").read_bytes(),
        "training_args.bin": b"a pickle that nobody reads",
    }
    done = run("models", "fetch", "hf-hub:x/transformers", "--json", home=tmp_path, HF_ENDPOINT=hub.address)
    told = json.loads(done.stdout)
    assert read_folder(told["folder"]).labels == LABELS
    assert "the repository states no preprocessing: took a centre square of 0.875" in told["notes"][-1]
    assert not any("training_args" in one for one in hub.requests)


def test_what_a_command_assumes_of_a_repository_that_it_fetches_is_said_the_first_time(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    import PIL.Image

    PIL.Image.new("RGB", (50, 40), "red").save(tmp_path / "cat.png")
    hub.repositories["x/bare"] = {"model.safetensors": files_of(repository)["model.safetensors"]}
    first, second = (
        run("predict", "hf-hub:x/bare", tmp_path / "cat.png", home=tmp_path, HF_ENDPOINT=hub.address) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    for said in (
        "has no config.json",
        "the repository names no classes: the classes have no names",
        "the repository states no preprocessing: took a centre square",
    ):
        assert said in first.stderr and said not in second.stderr
    readme = (tmp_path / "own" / "models" / "hub" / "x--bare" / "README.md").read_text()
    assert "- The repository names no classes" in readme


def test_without_the_hub_its_cache_is_used_and_that_is_said(hub: Hub, repository: Path, tmp_path: Path) -> None:
    hub.repositories["me/pets"] = files_of(repository)
    assert run("models", "fetch", "hf-hub:me/pets", home=tmp_path, HF_ENDPOINT=hub.address).returncode == 0
    shutil.rmtree(tmp_path / "own")
    done = run("models", "fetch", "hf-hub:me/pets", home=tmp_path, HF_ENDPOINT=closed())
    assert done.returncode == 0, done.stderr
    assert "the hub cannot be reached" in done.stderr and "took the copy of me/pets in" in done.stderr
    offline = run("models", "fetch", "hf-hub:me/pets", home=tmp_path, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and "HF_HUB_OFFLINE is set; took the copy" in offline.stderr


def closed() -> str:
    """An address on this machine at which nothing answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["fetch", "hf-hub:x/none"], "there is no model x/none on the hub"),
        (["fetch", "hf-hub:x/secret"], "or it is private: `hf auth login`"),
        (["fetch", "hf-hub:x/empty"], "holds no weights; expected model.safetensors"),
        (["fetch", "hf-hub:x/several"], r"holds several files of weights (a.pth, b.pth)"),
        (["fetch", "hf-hub:nobody"], "given as hf-hub:OWNER/NAME"),
        (["push", "PETS", "hf-hub:me/pets"], "needs a token of the hub with the right to write: run `hf auth login`"),
        (["push", "PETS", "me/pets"], "given as hf-hub:OWNER/NAME"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], problem: str, hub: Hub, pets: ModelFolder, tmp_path: Path
) -> None:
    hub.repositories |= {"x/secret": {}, "x/empty": {"README.md": b"#"}, "x/several": {"a.pth": b"", "b.pth": b""}}
    hub.private.add("x/secret")
    given = [str(pets.folder) if one == "PETS" else one for one in arguments]
    done = run("models", *given, home=tmp_path, HF_ENDPOINT=hub.address)
    assert done.returncode == 1
    assert problem in done.stderr and done.stderr.count("\n") == 1


def test_a_token_without_the_right_to_write_says_so(hub: Hub, pets: ModelFolder, tmp_path: Path) -> None:
    done = run(
        "models", "push", pets.folder, "hf-hub:me/pets", home=tmp_path, HF_ENDPOINT=hub.address, HF_TOKEN="hf_other"
    )
    assert done.returncode == 1
    assert "refused to push (401): the token of `hf auth login` or HF_TOKEN is missing, or has no right" in done.stderr


def test_no_connection_is_noticed_at_once(pets: ModelFolder, tmp_path: Path) -> None:
    """huggingface_hub tries for 24 s; the limit here leaves room for starting Python on a busy machine."""
    began = time.monotonic()
    done = run("models", "fetch", "efficientnet-b0", home=tmp_path, HF_ENDPOINT=closed())
    assert "the hub cannot be reached (127.0.0.1: Connection refused)" in done.stderr
    done = run("models", "push", pets.folder, "hf-hub:me/pets", home=tmp_path, HF_ENDPOINT=closed(), HF_TOKEN="hf_x")
    assert "me/pets cannot be pushed: the hub cannot be reached" in done.stderr
    assert done.returncode == 1
    assert time.monotonic() - began < 60


# Names and files


def test_names_of_repositories() -> None:
    assert parse_hub_name("hf-hub:timm/tf_efficientnet_b0.in1k") == Repository("timm/tf_efficientnet_b0.in1k")
    assert parse_hub_name("hf_hub:a/b@v1.0") == Repository("a/b", "v1.0")
    assert parse_hub_name("https://huggingface.co/a/b/tree/main/") == Repository("a/b", "main")
    assert parse_hub_name("https://huggingface.co/a/b") == Repository("a/b")
    assert is_hub_name("hf-hub:a/b") and not is_hub_name("a/b") and not is_hub_name(Path("hf-hub:a"))
    for wrong in ("hf-hub:a", "hf-hub:a/b/c", "hf-hub:../b/c", "hf-hub:", "hf-hub:a/b@", "hf-hub:a b/c"):
        with pytest.raises(CompoundNetError, match="OWNER/NAME"):
            parse_hub_name(wrong)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["pytorch_model.bin", "model.safetensors", "config.json", "x.onnx"], ["model.safetensors", "config.json"]),
        (["pytorch_model.bin", "preprocessor_config.json"], ["pytorch_model.bin", "preprocessor_config.json"]),
        (["best.ckpt", "README.md"], ["best.ckpt"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["network.toml", "weights.safetensors", "model.safetensors"], ["network.toml", "weights.safetensors"]),
    ],
)  # fmt: skip
def test_only_what_is_read_is_downloaded(names: list[str], expected: list[str]) -> None:
    assert needed_files(names, Repository("a/b")) == expected
