"""The Containerfile and the systemd unit start the service as the command line understands it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import blocks
from typer.main import get_command

from compoundnet.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of `compoundnet WORDS`, as the command line understands them."""
    commands: Any = get_command(app)
    name, *rest = words
    parameters: dict[str, Any] = commands.commands[name].make_context(name, rest).params
    return parameters


def unit() -> list[str]:
    """The lines of the unit."""
    return (DEPLOY / "compoundnet.service").read_text(encoding="utf-8").splitlines()


def test_the_container_starts_the_service_without_torch() -> None:
    lines = (DEPLOY / "Containerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    given = dict(steps)
    words = json.loads(given["ENTRYPOINT"]) + json.loads(given["CMD"])
    assert words[0] == "compoundnet"
    options = parsed(words[1:])
    assert (options["api"], options["host"], str(options["port"])) == (True, "0.0.0.0", given["EXPOSE"])
    assert options["token_file"] == Path("/run/secrets/token")
    assert given["USER"] != "root"
    installed = [text for step, text in steps if step == "RUN" and "pip install" in text]
    assert len(installed) == 1 and "[service]'" in installed[0]
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any("torch" in library or "compoundnet" in library for library in extras["service"])
    for step, text in steps:
        for name in text.split()[:-1] if step == "COPY" else []:
            assert (DEPLOY.parent / name).exists(), name


def test_the_pod_of_the_documentation_can_read_its_token() -> None:
    yaml: Any = pytest.importorskip("yaml")
    (text,) = [it.text for it in blocks(DEPLOY.parent / "docs" / "service.md") if it.language == "yaml"]
    pod = yaml.safe_load(text)["spec"]
    (container,) = pod["containers"]
    places = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
    volumes = {it["name"]: it for it in pod["volumes"]}
    assert volumes.keys() == places.keys()
    given = dict(
        line.partition(" ")[::2] for line in (DEPLOY / "Containerfile").read_text(encoding="utf-8").splitlines()
    )
    options = parsed([*json.loads(given["ENTRYPOINT"])[1:], *container["args"]])
    assert options["token_file"].parent == Path(places["token"])
    assert places["cache"] == given["ENV"].partition("=")[2]
    assert container["ports"] == [{"containerPort": options["port"]}]
    # Root owns secrets; Kubernetes lets the group read them, which `read_token` accepts.
    assert volumes["token"]["secret"]["defaultMode"] == 0o400
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(given["USER"])
    assert pod["terminationGracePeriodSeconds"] > float(options["timeout"].removesuffix("s"))


def test_the_unit_starts_the_service_with_a_token_of_its_own() -> None:
    (start,) = [line.removeprefix("ExecStart=") for line in unit() if line.startswith("ExecStart=")]
    options = parsed(shlex.split(start)[1:])
    assert (options["api"], options["token_file"]) == (True, Path("${CREDENTIALS_DIRECTORY}/token"))
    stop = next(int(line.partition("=")[2]) for line in unit() if line.startswith("TimeoutStopSec="))
    assert stop > float(options["timeout"].removesuffix("s"))
    assert "LoadCredential=token:/etc/compoundnet/token" in unit()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "compoundnet.service"
    text = "\n".join(unit()).replace("/opt/compoundnet/bin/compoundnet", shutil.which("true") or "/bin/true")
    file.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if file.name in line] == []
