"""The commands that the report names next: each is read by the parser of the command line."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from fitted import answered, lite0

from compoundnet.cli.main import app
from compoundnet.fit import Fit, Rung, write_fit_report

_USAGE_ERROR = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
SMALLER = msgspec.structs.replace(lite0(64), width=0.347, depth=0.6)


def parsed(command: str) -> Any:
    """The context of a command; what the command line does not know raises."""
    program, *words = shlex.split(command)
    assert program == "compoundnet"
    group: Any = typer.main.get_command(app)
    name, found, rest = group.resolve_command(typer.Context(group), words)
    return found.make_context(name, rest)


def commands(found: Fit, folder: Path) -> dict[str, Any]:
    """The context of each command of the report, by its text."""
    write_fit_report(found, folder / "report.html")
    page = (folder / "report.html").read_text()
    texts = map(html.unescape, re.findall(r"<dd><code>(compoundnet [^<]*)</code>", page))
    return {text: parsed(text) for text in texts}


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (answered(lite0(96)), ["train DATA --from efficientnet-lite0 --set resolution=96 -o better"]),
        (answered(lite0(96, "bfloat16", "openvino")), ["train DATA --from efficientnet-lite0 --set resolution=96"]),
        (
            answered(SMALLER),
            [
                "scale efficientnet-lite0 --width 0.347 --depth 0.6 --sample IMAGES -o smaller",
                "train DATA --from smaller --set resolution=64 -o better",
            ],
        ),
        (
            answered(lite0(96), new_weights=True),
            ["train DATA --network efficientnet-lite0 --set resolution=96 -o better"],
        ),
        (
            answered(SMALLER, new_weights=True),
            [
                "scale efficientnet-lite0 --width 0.347 --depth 0.6 -o smaller.toml",
                "train DATA --network smaller.toml --set resolution=64 -o better",
            ],
        ),
    ],
    ids=["probe", "bfloat16", "inherited", "new", "new-and-smaller"],
)
def test_each_is_one_that_the_command_line_takes(tmp_path: Path, found: Fit, last: list[str]) -> None:
    texts = list(commands(found, tmp_path))
    assert [text.split()[1] for text in texts[:5]] == ["predict", "serve", "serve", "explain", "train"]
    assert [text for text, end in zip(texts[5:], last, strict=True) if not text.startswith(f"compoundnet {end}")] == []


def test_the_parser_refuses_what_there_is_not() -> None:
    for wrong in ("compoundnet serve best.onnx", "compoundnet predict best.onnx a.jpg --no-such", "compoundnet bake"):
        with pytest.raises(_USAGE_ERROR):
            parsed(wrong)


def test_the_page_serves_the_folder_and_the_service_the_file_as_it_was_measured(tmp_path: Path) -> None:
    found = commands(answered(lite0(96, "bfloat16", "openvino")), tmp_path)
    predict, local, service = list(found.values())[:3]
    assert (local.params["model"], local.params["api"]) == (["best"], False)
    for context in (predict, service):
        assert (context.params["backend"], context.params["precision"]) == ("openvino", "bfloat16")
    assert (service.params["model"], service.params["api"]) == (["best.onnx"], True)
    plain = next(iter(commands(answered(lite0(96, "int8")), tmp_path).values()))  # the file is int8
    assert (plain.params["backend"], plain.params["precision"]) == (None, None)


def test_a_network_that_was_raised_starts_at_the_resolution_of_its_training(tmp_path: Path) -> None:
    raced = (Rung(10, 10, ((lite0(96), 0.8), (lite0(64), 0.7))),)
    found = answered(lite0(112), fine_tuned=True, rungs=raced)
    assert list(commands(found, tmp_path))[-1].endswith("--set resolution=96 -o better")


def test_names_with_spaces_are_quoted(tmp_path: Path) -> None:
    found = answered(lite0(96))
    assert found.answer is not None
    answer = msgspec.structs.replace(found.answer, model="my best", file="my best.onnx")
    first = next(iter(commands(msgspec.structs.replace(found, answer=answer), tmp_path).values()))
    assert first.params["model"] == "my best.onnx"
