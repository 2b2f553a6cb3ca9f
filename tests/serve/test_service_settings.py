"""What a service is told at its start: tokens, models, limits; and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from command import run
from small_model import write_small_model

from compoundnet.base import CompoundNetError
from compoundnet.serve.service.served_models import parse_models
from compoundnet.serve.service.settings import ServiceSettings
from compoundnet.serve.service.token import check_address, read_token

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


def test_an_address_of_others_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(CompoundNetError, match=r"needs a token there: --token-file FILE"):
            check_address(host, None)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check_address(host, None)
    with pytest.raises(CompoundNetError, match="is no address of this machine"):
        check_address("no such host", None)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (TOKEN, 0o644, r"others can read the token \(mode 0644\); `chmod 600"),
        (TOKEN, 0o620, r"others can read the token"),
        ("", 0o600, "is empty"),
        ("short", 0o600, "has 5 characters, and 16 are the least"),
        (f"{TOKEN}\n{TOKEN}", 0o600, "must hold one token, on one line"),
        (f"{TOKEN}\x1b", 0o600, "must hold one token"),
        ("x" * 5000, 0o600, "4.10 kB is the limit"),
    ],
)
def test_a_token_file_that_is_not_safe_is_refused(tmp_path: Path, content: str, mode: int, message: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(CompoundNetError, match=message) as caught:
        read_token(file)
    assert TOKEN not in str(caught.value)


def test_a_token_that_the_system_gives_may_be_readable_by_its_group(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o440)
    as_root = os.geteuid() == 0
    if as_root:
        os.chown(file, 0, 54_321)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(CompoundNetError, match=r"others can read the token \(mode 0440\)"):
        read_token(file)
    if as_root:  # a secret of Kubernetes: root's, and readable by a group of this process
        os.chown(file, 0, os.getegid())
        assert read_token(file).admits(f"Bearer {TOKEN}")
        os.chown(file, 0, 54_321)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # a credential of systemd
    assert read_token(file).admits(f"Bearer {TOKEN}")
    for mode in (0o460, 0o444):
        file.chmod(mode)
        with pytest.raises(CompoundNetError, match="others can read the token"):
            read_token(file)


def test_a_token_admits_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o400)
    token = read_token(file)
    assert token.admits(f"Bearer {TOKEN}") and token.admits(f"bearer  {TOKEN} ")
    for given in (None, "", TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \udcff\u00e9"):
        assert not token.admits(given), given
    assert TOKEN not in repr(token)


def test_models_are_named_by_their_place_or_by_hand(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    (tmp_path / "m.onnx").touch()
    found = parse_models(
        [str(model), f"x={model}", str(tmp_path / "m.onnx"), "hf-hub:owner/name", "efficientnet-lite0"]
    )
    assert list(found) == ["small", "x", "m", "name", "efficientnet-lite0"]
    for given, message in [
        (["a=x", "a=y"], "two models are named a"),
        ([str(model), str(model)], "two models are named small"),
        ([str(tmp_path / "a=b")], "'a=b' cannot be the name of a model"),
        (["a b=x"], "'a b' cannot be the name"),
        (["=x"], "'' cannot be the name"),
        (["x="], "--model x= names no model"),
        (["\x1b=x"], "cannot be the name"),
    ]:
        with pytest.raises(CompoundNetError, match=message):
            parse_models(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch must be 1 to 1024 images, got 0"),
        ({"max_queue": 0}, "max_queue must be 1 to 100,000"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": 3601}, "timeout must be above 0 and at most an hour"),
        ({"batch_wait": 30.0}, "batch_wait must be at least 0 and less than the timeout of 30 s"),
        ({"max_bytes": 0}, "max_bytes must be 1"),
        ({"max_pixels": 10**9}, "max_pixels must be 1 to 89,478,485"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        ServiceSettings(**settings)


def test_options_of_the_service_are_not_for_the_page() -> None:
    done = run("serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--host goes with --api" in done.stderr
    done = run("serve", "--api", "--host", "0.0.0.0")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "needs a token" in done.stderr


def test_a_model_that_cannot_be_opened_ends_the_service_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"x" * 100)
    done = run("serve", "--api", "--port", "0", "--model", tmp_path / "broken.onnx")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
