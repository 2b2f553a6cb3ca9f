"""fit: candidates within a budget, the screen that goes on, and an answer that is measured in its final form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from browser import page
from command import run
from filelock import FileLock
from grey_images import CLASSES, images, write_models
from PIL import Image

import compoundnet as cn
from compoundnet.base import CompoundNetError, parse_count
from compoundnet.fit import Fit, Limits, Screened, find_candidates, fit, read_fit, screen, screen_run, steps
from compoundnet.fit.deployment import deploy
from compoundnet.fit.forms import Finalist
from compoundnet.fit.front_plot import answer_of, pareto
from compoundnet.fit.report import what_more_brings
from compoundnet.models import open_folder
from compoundnet.runtime.exports.formats import FORMATS
from compoundnet.train import evaluate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """See `write_models`."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> tuple[Path, Fit, list[str]]:
    output, notes = tmp_path_factory.mktemp("fit") / "best", list[str]()
    return output, fit(images(), output, Limits(max_latency=1000), models=models, notify=notes.append), notes


def test_the_answer_is_a_model_folder_and_a_file_that_are_measured(found: tuple[Path, Fit, list[str]]) -> None:
    output, result, _ = found
    answer = result.answer
    assert answer is not None and answer.result is not None and answer.interval is not None
    best = max(one.accuracy or 0 for one in result.screened)
    assert answer.cross_validated == best > 0.7
    file = output.with_name("best.onnx")
    assert answer.size_bytes == file.stat().st_size
    assert answer.latency < 1000
    again = evaluate(file, images()).result
    assert again.top1 == answer.result.top1 == json.loads((output / "result.json").read_text())["top1"]
    assert answer.interval[0] < again.top1 < answer.interval[1] or again.top1 == 1
    assert open_folder(output).labels == CLASSES
    assert cn.Predictor(output)(Image.new("RGB", (24, 24), (200, 200, 200))).label == "light"


def test_every_candidate_has_a_result_or_a_reason(found: tuple[Path, Fit, list[str]]) -> None:
    _, result, notes = found
    assert [one.candidate.resolution for one in result.screened] == [32, 64, 56, 48, 40, 32]
    assert all(one.accuracy is not None and one.latency is not None for one in result.screened)
    assert [note for note in notes if "cross-validated probe" in note] == [str(one) for one in result.screened]
    latencies = [one.latency or 0 for one in pareto(result)]
    assert latencies and latencies == sorted(set(latencies))


def test_the_answer_is_shown_as_it_is_computed(found: tuple[Path, Fit, list[str]]) -> None:
    fit = found[1]
    assert fit.answer is not None
    slow = answer_of(fit)
    assert slow is not None and slow.candidate == fit.answer.candidate
    fast = msgspec.structs.replace(slow, candidate=slow.candidate.in_precision("float32", "openvino"), latency=0.1)
    answer = msgspec.structs.replace(fit.answer, candidate=fast.candidate)
    assert answer_of(msgspec.structs.replace(fit, screened=(*fit.screened, fast), answer=answer)) == fast
    # One that was deployed in a precision which was not screened.
    assert answer_of(msgspec.structs.replace(fit, answer=answer)) == slow
    assert answer_of(msgspec.structs.replace(fit, answer=None)) is None
    # One that was raised to a resolution at which it was not screened.
    raised = msgspec.structs.replace(fit.answer, candidate=msgspec.structs.replace(slow.candidate, resolution=72))
    found_at = answer_of(msgspec.structs.replace(fit, answer=raised))
    assert found_at == Screened(raised.candidate, raised.latency, raised.cross_validated)


def test_it_goes_on_where_it_stopped(
    found: tuple[Path, Fit, list[str]], models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, before, _ = found

    def again(*_: object, **__: object) -> Screened:
        raise AssertionError("screened again")

    monkeypatch.setattr(screen_run, "screen", again)
    notes: list[str] = []
    after = fit(images(), output, Limits(max_latency=1000), models=models, notify=notes.append)
    assert after.screened == before.screened
    assert "going on: 6 candidates are screened already" in notes
    with pytest.raises(AssertionError, match="screened again"):  # other images
        fit(images(seed=5), output, models=models, notify=notes.append)
    assert any("holds results of other images" in note for note in notes)


def test_ctrl_c_leaves_the_best_so_far(tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def interrupted(*arguments: object, **options: object) -> tuple[Screened, tuple[str, ...]]:
        asked.append(arguments[0])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return screen.screen(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(screen_run, "screen", interrupted)
    notes: list[str] = []
    result = fit(images(), tmp_path / "best", models=models, seconds=300, notify=notes.append)
    assert result.answer is not None and result.left == 5 and result.plan is None, "no race follows"
    assert "the screen was stopped; the same command goes on" in result.notes
    assert "stopped; finishing with the best so far" in notes
    assert (tmp_path / "best.onnx").exists()
    assert read_fit(tmp_path / "best.fit") == result
    assert fit(images(), tmp_path / "best", models=models).left == 0


def test_the_budget_decides(models: list[str]) -> None:
    opened, chosen = {name: open_folder(name) for name in models}, dict.fromkeys(models, 64)
    free = find_candidates(opened, chosen, 3, Limits())
    assert [excess for _, excess in free] == [None] * 6
    macs = sorted(candidate.macs for candidate, _ in free)
    some = find_candidates(opened, chosen, 3, Limits(max_macs=macs[0]))
    assert [excess is None for candidate, excess in some if not candidate.scaled].count(True) == 2
    params = free[0][0].params
    few = [pair for pair in find_candidates(opened, chosen, 3, Limits(max_params=params - 1)) if not pair[0].scaled]
    (over,) = {excess for _, excess in few}
    assert over is not None and "parameters are more than" in over
    small = find_candidates(opened, chosen, 3, Limits(max_size=free[0][0].size_bytes - 1))
    assert {candidate.precision for candidate, _ in small} == {"int8"}


def test_the_fastest_that_is_accurate_enough_comes_first(found: tuple[Path, Fit, list[str]]) -> None:
    result = msgspec.structs.replace(found[1], limits=Limits(min_accuracy=0.5))
    enough = [one for one in result.screened if (one.accuracy or 0) >= 0.5]
    assert result.ranking[0] == min(enough, key=lambda one: one.latency or 0)


@pytest.mark.slow
def test_an_accuracy_that_suffices_is_deployed_in_the_fastest_way(tmp_path: Path, models: list[str]) -> None:
    notes: list[str] = []
    result = fit(images(), tmp_path / "cheap", Limits(min_accuracy=0.9999), models=models[:1], notify=notes.append)
    assert result.answer is not None and (result.answer.drop or 0) <= 0.01
    short = (
        f"--min-accuracy 100.0% is not reached: the answer has {result.answer.expected_accuracy:.1%} cross-validated, "
    )
    assert [note for note in notes if note.startswith(short)] == [note for note in result.notes if "reached" in note]
    assert any(note.startswith(short) for note in notes)


def test_a_final_form_that_misses_its_budget_is_replaced(
    tmp_path: Path, models: list[str], found: tuple[Path, Fit, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    best = found[1].ranking[0]

    def too_slow(finalist: Finalist, *arguments: object) -> object:
        if finalist.screened.candidate == best.candidate:
            return None, "it takes 9 ms"
        return deploy(finalist, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "deploy", too_slow)
    result = fit(images(), tmp_path / "best", models=models)
    assert result.answer is not None and result.answer.candidate != best.candidate
    assert result.notes == (f"{best.candidate} ranks higher, but in its final form it takes 9 ms",)


def test_a_tenth_more_admits_the_slower_and_who_missed_the_limit_in_the_end(found: tuple[Path, Fit, list[str]]) -> None:
    _, result, _ = found
    answer = result.answer
    assert answer is not None
    for tuned, latency, accuracy, named in (
        (False, 108, 0.0, True),
        (False, 112, 1.0, False),
        (False, 95, 1.0, True),
        (False, 95, 0.0, False),
        (True, 108, 0.0, True),
        (True, 98, 1.0, True),
        (True, 95, 1.0, False),  # there was no time to fine-tune it
    ):
        other = Screened(msgspec.structs.replace(answer.candidate, resolution=999), latency, accuracy)
        own = msgspec.structs.replace(answer, fine_tuned=tuned)
        limits = Limits(max_latency=100)
        more = what_more_brings(msgspec.structs.replace(result, limits=limits, screened=(other,), answer=own))
        assert ("999 px" in more) == named, (tuned, latency, accuracy)
        assert ("would bring nothing" in more) != named


@pytest.mark.slow
def test_int8_where_the_size_binds(tmp_path: Path, models: list[str]) -> None:
    whole = find_candidates({models[0]: open_folder(models[0])}, {models[0]: 32}, 3, Limits())[0][0]
    result = fit(images(), tmp_path / "tiny", Limits(max_size=whole.size_bytes - 1), models=models[:1])
    assert result.answer is not None and result.answer.candidate.precision == "int8"
    assert result.answer.size_bytes < whole.size_bytes


def test_what_is_refused(tmp_path: Path, models: list[str]) -> None:
    smallest = "nothing fits at most 100 parameters: the smallest network that can be tried is .*small of width 0.1"
    with pytest.raises(CompoundNetError, match=smallest):
        fit(images(), tmp_path / "a", Limits(max_params=100), models=models)
    assert not list(tmp_path.iterdir()), "nothing is left of it"
    with pytest.raises(CompoundNetError, match=r"nothing fits at most 1e-06 ms an image: the fastest .* takes"):
        fit(images(), tmp_path / "b", Limits(max_latency=1e-6), models=models)
    with pytest.raises(CompoundNetError, match="no pretrained model is at hand"):
        fit(images(), tmp_path / "c", models=[])
    with pytest.raises(CompoundNetError, match="min_accuracy must be a fraction"):
        Limits(min_accuracy=95)
    few = images()
    alone = msgspec.structs.replace(few, splits={"train": few.split("train").subset(np.arange(5))})
    with pytest.raises(CompoundNetError, match="'light' has 1 training image, and fit needs two of each class") as said:
        fit(alone, tmp_path / "d", models=models)
    assert "--recipe" not in str(said.value) and not (tmp_path / "d.fit").exists()
    with pytest.raises(CompoundNetError, match="the storage's URL cannot be read"):
        fit(images(), tmp_path / "d", models=models, seconds=300, storage="no url")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "own.txt").write_text("mine")
    with pytest.raises(CompoundNetError, match="exists and is not a model folder"):
        fit(images(), tmp_path / "e", models=models)
    (tmp_path / "f.fit").mkdir()
    with FileLock(tmp_path / "f.fit" / "lock"), pytest.raises(CompoundNetError, match="another process writes"):
        fit(images(), tmp_path / "f", models=models)
    with pytest.raises(CompoundNetError, match=r"there is no .*fit\.json"):
        read_fit(tmp_path)


def test_the_options_that_are_named_admit_the_smallest_network(tmp_path: Path, models: list[str]) -> None:
    with pytest.raises(CompoundNetError) as said:
        fit(images(), tmp_path / "best", Limits(max_params=100, max_macs=100), models=models[:1])
    named = re.search(r"; --max-macs (\S+) --max-params (\S+) would admit it$", str(said.value))
    assert named is not None
    limits = Limits(max_macs=parse_count(named[1]), max_params=parse_count(named[2]))
    assert fit(images(), tmp_path / "best", limits, models=models[:1]).answer is not None
    with pytest.raises(CompoundNetError, match=r"would admit it in place of the bounds of a board$"):
        fit(images(), tmp_path / "other", Limits(max_params=100, device="a board"), models=models[:1])


def test_a_microcontroller_runs_another_file(tmp_path: Path, models: list[str]) -> None:
    found = fit(images(), tmp_path / "best", Limits(max_flash=1e6), models=models[:1])
    assert found.answer is not None and found.answer.candidate.precision == "int8"
    model = tmp_path / "best"
    command = f"`compoundnet export {model} -o {model}.tflite --precision int8 --calibrate IMAGES`"
    assert f"{model}.onnx is for this machine; for the microcontroller, {command}" in found.notes[-1]


def test_a_microcontroller_runs_a_litert_file_as_it_is(tmp_path: Path, models: list[str]) -> None:
    pytest.importorskip("litert_torch", reason="litert-torch is not installed (compoundnet[litert])")
    from ai_edge_litert import interpreter

    found = fit(images(), tmp_path / "best", Limits(max_flash=1e6), models=models[:1], format="litert")
    assert found.answer is not None and found.answer.candidate.precision == "int8"
    assert not [note for note in found.notes if "microcontroller" in note]
    file = tmp_path / "best.tflite"
    assert found.answer.file == str(file) and file.stat().st_size == found.answer.size_bytes
    opened = interpreter.Interpreter(str(file))
    assert {one["dtype"] for one in opened.get_tensor_details()} <= {np.int8, np.int32}, "int8 with biases of 32 bits"


def test_the_page_fits_any_window_and_names_the_answer(found: tuple[Path, Fit, list[str]]) -> None:
    report = found[0].with_name("best.fit") / "report.html"
    text, result = report.read_text(), read_fit(report.parent)
    assert result.answer is not None and result.answer.text() in text
    assert "<script" not in text and "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")
    for width in (390, 1200):
        with page(width, 900) as shown:
            shown.page.goto(report.as_uri())
            assert shown.overflow() <= 0
            assert shown.broken_links() == []


def test_the_command(tmp_path: Path, models: list[str]) -> None:
    for name, level in zip(CLASSES, (60, 130, 200), strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        random = np.random.default_rng(level)
        for number in range(10):
            pixels = random.normal(level, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    arguments = ["--candidate", models[0], "--max-latency", "1s", "-o", "best"]
    # A server for studies does not matter without --time.
    done = run("fit", "photos", *arguments, cwd=tmp_path, COMPOUNDNET_STORAGE="postgresql://me:secret@nowhere/studies")
    assert done.returncode == 0, done.stderr
    assert "nowhere" not in done.stderr
    assert "test images right (95 % interval" in done.stdout
    assert "wrote best, best.onnx and best.fit/report.html" in done.stderr
    shown = run("fit", "show", "best.fit", "--json", cwd=tmp_path)
    document = json.loads(shown.stdout)
    assert document["answer"]["model"] == "best"
    assert document["what_more_brings"].startswith("A tenth more latency (--max-latency 1.1s) would bring nothing")
    again = run("fit", "show", "best.fit", cwd=tmp_path)
    for line in ("budget: at most 1000 ms an image", document["what_more_brings"], "report: best.fit/report.html"):
        assert line in again.stdout.splitlines()
    assert " parameters, " in done.stdout and document["what_more_brings"] in done.stdout.splitlines()
    assert run("predict", "best.onnx", "photos/light/0.png", cwd=tmp_path).returncode == 0
    assert "needs the folder NAME.fit" in run("fit", "show", cwd=tmp_path).stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "option", "why"),
    [
        (("photos", "--workers", "2"), "--workers", "goes with --time"),
        (("photos", "--storage", "postgresql://me@server/race"), "--storage", "goes with --time"),
        (("photos", "--seed", "1"), "--seed", "goes with --time"),
        (("show", "best.fit", "--max-latency", "8ms"), "--max-latency", "does not go with `show`"),
        (("show", "best.fit", "-o", "other"), "--output", "does not go with `show`"),
        (("join", "photos", "--storage", "x", "--max-latency", "8ms"), "--max-latency", "does not go with `join`"),
        (("join", "photos", "--storage", "x", "--time", "1h"), "--time", "does not go with `join`"),
        (("join", "photos", "--storage", "x", "--json"), "--json", "does not go with `join`"),
    ],
)
def test_options_without_an_effect_are_refused(tmp_path: Path, words: tuple[str, ...], option: str, why: str) -> None:
    done = run("fit", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert option in done.stderr and why in " ".join(done.stderr.split())


def test_only_formats_that_can_be_timed_are_named() -> None:
    done = run("fit", "--help")
    words = set(re.findall(r"\w+", done.stdout))
    assert {name for name, form in FORMATS.items() if form.runs} <= words and "coreml" not in words
