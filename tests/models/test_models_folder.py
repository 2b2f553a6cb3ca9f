"""Model folders: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_models import small_folder, small_network, small_state

from compoundnet.arch import families
from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess, load, read_folder, write_folder
from compoundnet.models.tensors import expected_tensors
from compoundnet.nn import build


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = small_state()
    written = small_folder(tmp_path / "new" / "pets", state)
    model = read_folder(tmp_path / "new" / "pets")
    assert model == written
    assert (model.name, model.labels) == ("pets", ("cat", "dog", "tiger cat"))
    assert model.network == small_network()
    assert model.preprocess == Preprocess.authors(32)
    found = safetensors.torch.load_file(model.weights)
    assert found.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(found[name], state[name]) for name in found)
    assert listing(tmp_path / "new") == ["pets"]


def test_the_checksum_file_is_what_sha256sum_reads(tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path / "pets", capture_output=True, check=False
    )
    assert done.returncode == 0


def test_the_files_can_be_read_by_whoever_may_read_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    small_folder(tmp_path / "pets")
    usual = (tmp_path / "plain").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "pets").iterdir()} == {usual}


@pytest.mark.parametrize("name", [name for members in families().values() for name in members])
def test_the_expected_tensors_are_those_of_the_built_module(name: str) -> None:
    network = next(members[name] for members in families().values() if name in members)
    with torch.device("meta"):
        built = build(network).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in built.items() if not key.endswith("num_batches_tracked")}
    assert expected_tensors(network) == shapes


def test_half_precision_weights_are_kept_as_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in small_state().items()}
    model = small_folder(tmp_path / "pets", state)
    assert {tensor.dtype for tensor in safetensors.torch.load_file(model.weights).values()} == {torch.float32}


def test_a_folder_without_labels_has_none(tmp_path: Path) -> None:
    write_folder(tmp_path / "m", small_network(), small_state(), Preprocess.authors(32), readme="")
    assert read_folder(tmp_path / "m").labels is None


def test_reading_a_folder_does_not_import_torch(tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    program = (
        "import sys, json; from compoundnet.models import open_model; model = open_model(sys.argv[1]);"
        "print(json.dumps([model.name, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pets")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["pets", False]


@pytest.mark.parametrize("missing", ["network.toml", "weights.safetensors", "preprocess.toml"])
def test_a_missing_file_is_named(missing: str, tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / missing).unlink()
    with pytest.raises(CompoundNetError, match=rf"pets is not a model folder: it has no {missing}"):
        read_folder(tmp_path / "pets")


def test_what_is_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="there is no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(CompoundNetError, match="is a file, not a model folder; `compoundnet models convert`"):
        read_folder(tmp_path / "weights.pth")


def test_one_changed_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    weights = small_folder(tmp_path / "pets").weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CompoundNetError, match=r"weights\.safetensors is damaged or has been changed.*SHA256SUMS"):
        load(tmp_path / "pets")


def test_truncated_weights_are_found_without_a_checksum_too(tmp_path: Path) -> None:
    weights = small_folder(tmp_path / "pets").weights
    (tmp_path / "pets" / "SHA256SUMS").unlink()
    read_folder(tmp_path / "pets")
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CompoundNetError, match=r"weights\.safetensors is truncated or damaged"):
        read_folder(tmp_path / "pets")


def test_a_checksum_file_about_other_files_is_an_error(tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / "SHA256SUMS").write_text("0" * 64 + "  other.safetensors\n")
    with pytest.raises(CompoundNetError, match=r"SHA256SUMS: has no line with the sha256 of weights\.safetensors"):
        read_folder(tmp_path / "pets")


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\ndog\ntiger cat\nlion\n", ""])
def test_labels_must_be_as_many_as_the_classes(text: str, tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / "labels.txt").write_text(text)
    with pytest.raises(CompoundNetError, match=rf"labels\.txt: holds {text.count(chr(10))} labels.*3 classes"):
        read_folder(tmp_path / "pets")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfcat\r\nd\xc3\xb6g\r\nlion\r\n",  # Notepad
        "cat\ndög\nlion\n\n \n".encode(),
        "cat\rdög\rlion".encode(),
        "\ufeffcat\r\ndög\r\nlion\r\n\r\n".encode("utf-16"),
    ],
)
def test_labels_are_read_as_editors_save_them(content: bytes, tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / "labels.txt").write_bytes(content)
    assert read_folder(tmp_path / "pets").labels == ("cat", "dög", "lion")


@pytest.mark.parametrize(
    ("content", "problem"), [(b"cat\n\ndog\n", "label of class 1 is empty"), (b"c\xe4t\ndog\nlion\n", "not UTF-8")]
)
def test_unusable_labels_are_named(content: bytes, problem: str, tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / "labels.txt").write_bytes(content)
    with pytest.raises(CompoundNetError, match=rf"labels\.txt: .*{problem}"):
        read_folder(tmp_path / "pets")


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        ("network.toml", "resolution = 32", "resolution = 8", r"network\.toml.*resolution must be at least 32"),
        ("network.toml", "num_classes = 3", "num_clases = 3", r"network\.toml.*num_clases"),
        ("preprocess.toml", "crop = 0.5", "crop = -1.0", r"preprocess\.toml.*crop"),
    ],
)
def test_a_wrong_value_names_file_and_field(file: str, before: str, after: str, problem: str, tmp_path: Path) -> None:
    path = small_folder(tmp_path / "pets").folder / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(CompoundNetError, match=problem):
        read_folder(tmp_path / "pets")


def test_weights_of_another_network_are_named_tensor_by_tensor(tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    small_network(num_classes=5).save(tmp_path / "pets" / "network.toml")
    (tmp_path / "pets" / "labels.txt").unlink()
    with pytest.raises(CompoundNetError, match=r"classifier\.weight is 3x32 instead of 5x32"):
        read_folder(tmp_path / "pets")


def test_a_state_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    state = small_state()
    state["stem.conv.bias"] = state.pop("stem.conv.weight")
    with pytest.raises(CompoundNetError, match=r"1 missing \(stem\.conv\.weight\), 1 extra \(stem\.conv\.bias\)"):
        small_folder(tmp_path / "pets", state)
    assert listing(tmp_path) == []


def test_labels_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="holds 1 labels, and the network has 3 classes"):
        write_folder(tmp_path / "m", small_network(), small_state(), Preprocess.authors(32), labels=["a"], readme="")
    assert listing(tmp_path) == []


def test_a_model_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    old = small_folder(tmp_path / "pets").weights.read_bytes()
    with pytest.raises(CompoundNetError, match=r"exists already; .*--force"):
        small_folder(tmp_path / "pets")
    assert read_folder(tmp_path / "pets").weights.read_bytes() == old
    assert small_folder(tmp_path / "pets", replace=True).weights.read_bytes() != old
    assert listing(tmp_path) == ["pets"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"")
    with pytest.raises(CompoundNetError, match="exists and is not a model folder"):
        small_folder(photos, replace=True)
    small_folder(tmp_path / "pets")
    (tmp_path / "pets" / "last.ckpt").write_bytes(b"")
    with pytest.raises(CompoundNetError, match=r"holds more than a model \(last\.ckpt\)"):
        small_folder(tmp_path / "pets", replace=True)
    assert "last.ckpt" in listing(tmp_path / "pets")


def test_an_empty_folder_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    small_folder(tmp_path / "pets")
    read_folder(tmp_path / "pets")


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("replace", [False, True])
def test_an_interrupted_write_leaves_what_was_there(
    problem: BaseException, replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if replace:
        small_folder(tmp_path / "pets")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise problem

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(problem, KeyboardInterrupt) else CompoundNetError):
        small_folder(tmp_path / "pets", replace=replace)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert listing(tmp_path) == (["pets"] if replace else [])
