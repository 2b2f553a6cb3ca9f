"""One cache of models for all tests, apart from the user's own; what needs a server or a GPU is skipped without one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgresql
import pytest
from sqlalchemy import Engine, event
from torchlib import share_torchlib

# OpenVINO's import sends telemetry unless this library cannot be imported; tests import it before the program does.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


def pytest_runtest_setup() -> None:
    share_torchlib()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shared by the workers of pytest-xdist, so that none compiles what another has."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOUNDNET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _unsynced_databases() -> None:
    """SQLite waits for the disk at each of thousands of commits, which protects from power failures, not from kills."""

    @event.listens_for(Engine, "connect")
    def unsync(connection: Any, _: object) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """HOST:PORT."""
    if postgresql.programs() is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (compoundnet[postgresql])")
    with postgresql.server() as host:
        yield host
