"""What ends a command: one line and an exit code, whatever happens; and nothing that a terminal would obey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from command import run
from small_model import write_small_model

from compoundnet import data

# Characters that move the cursor, change colours or the title, or end a line early; and bytes that are no UTF-8.
HOSTILE = "a\x1b[31mb\x1b]0;title\x07\x08\r\x9b2J"
NOT_UTF8 = "caf\udce9"


def python(code: str, *arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def obeyed(output: str) -> set[str]:
    """The characters of an output that a terminal would not show but obey."""
    return {character for character in output if ord(character) < 32 or 127 <= ord(character) < 160} - {"\n", "\t"}


RAISE = """
from compoundnet.cli.faults import errors_as_lines
with errors_as_lines():
    print("half")
    raise {error}
"""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (
            "KeyError('x' * 9)",
            70,
            "error: this is a fault of compoundnet (KeyError: 'xxxxxxxxx'); please report it with",
        ),
        ("RecursionError('deep')", 70, "error: this is a fault of compoundnet (RecursionError: deep)"),
        ("MemoryError()", 1, "error: there is not enough memory"),
        ("type('OutOfMemoryError', (RuntimeError,), {})('CUDA')", 1, "error: there is not enough memory"),
        ("RuntimeError('DefaultCPUAllocator: cannot allocate memory')", 1, "error: there is not enough memory"),
        ("OSError(28, 'No space left on device')", 1, "error: [Errno 28] No space left on device"),
        ("BrokenPipeError()", 1, ""),
        ("KeyboardInterrupt()", 130, "error: interrupted"),
        ("__import__('compoundnet').base.CompoundNetError('a\\x1b[31mb')", 1, "error: a\ufffd[31mb"),
        ("__import__('compoundnet').base.CompoundNetError('a\\u202egpj.b')", 1, "error: a\ufffdgpj.b"),
    ],
)
def test_no_exception_prints_a_traceback(error: str, code: int, told: str, tmp_path: Path) -> None:
    process = python(RAISE.format(error=error), COMPOUNDNET_CACHE=str(tmp_path))
    stderr = process.communicate(timeout=60)[1].decode()
    assert (process.returncode, "Traceback" in stderr) == (code, False)
    assert stderr.startswith(told) and stderr.count("\n") == (1 if told else 0)
    logs = list(tmp_path.glob("logs/*.log"))
    assert len(logs) == (1 if code == 70 else 0)
    for log in logs:
        assert str(log) in stderr
        assert "Traceback (most recent call last)" in log.read_text() and "command: " in log.read_text()


def test_a_fault_is_named_where_no_log_can_be_written() -> None:
    process = python(RAISE.format(error="KeyError(1)"), COMPOUNDNET_CACHE="/dev/null/c", TMPDIR="/dev/null")
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 70 and stderr.count("\n") == 1 and "please report it" in stderr


def test_a_thread_that_ends_by_a_fault_says_so_in_a_line(tmp_path: Path) -> None:
    code = """
    import threading
    from compoundnet.cli.faults import errors_as_lines
    with errors_as_lines():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    """
    process = python(code, COMPOUNDNET_CACHE=str(tmp_path))
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0 and stderr.count("\n") == 1 and "ZeroDivisionError" in stderr


def test_sigterm_cleans_up_and_a_command_ends_with_its_code(tmp_path: Path) -> None:
    code = """
    import sys, time
    from compoundnet.base import scratch_folder
    from compoundnet.cli.faults import errors_as_lines
    with errors_as_lines(), scratch_folder(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(60)
    """
    process = python(code, tmp_path / "target")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("dropping", ["destructor", "callback"])
def test_a_signal_in_a_destructor_or_a_callback_ends_the_command(dropping: str, sent: int, code: int) -> None:
    script = """
    import os, signal, sys, time, weakref
    from compoundnet.cli.faults import errors_as_lines

    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background

    def stop(*_):
        os.kill(os.getpid(), int(sys.argv[2]))
        time.sleep(1)

    class Held:
        pass

    if sys.argv[1] == "destructor":
        Held.__del__ = stop
    with errors_as_lines():
        held = Held()
        kept = weakref.ref(held, stop) if sys.argv[1] == "callback" else None
        del held
        time.sleep(60)
    """
    process = python(script, dropping, str(int(sent)))
    stderr = process.communicate(timeout=30)[1].decode()
    assert (process.returncode, stderr) == (code, "error: interrupted\n" if code == 130 else "")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_python_ends_prints_nothing(sent: int) -> None:
    script = """
    import atexit, os, signal, sys, time
    from compoundnet.cli.faults import errors_as_lines
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit.register(time.sleep, 60)
    with errors_as_lines():
        pass
    atexit.register(os.kill, os.getpid(), int(sys.argv[1]))
    """
    process = python(script, str(int(sent)))
    assert (process.communicate(timeout=30)[1], process.returncode) == (b"", -sent)


MAIN = "import sys; from compoundnet.cli.main import main; sys.argv[0] = 'compoundnet'; main()"


@pytest.mark.parametrize(
    ("redirected", "told"),
    [(">&-", "standard output is closed"), (">/dev/full", "No space left on device"), ("2>&-", ""), (">&- 2>&-", "")],
)
def test_closed_and_full_streams(redirected: str, told: str, tmp_path: Path) -> None:
    command = f'exec "$0" -c "{MAIN}" describe efficientnet-b0 {redirected}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == (1 if ">&-" in redirected.replace("2>&-", "") or "full" in redirected else 0)
    assert told in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == bool(told)


def test_a_deleted_working_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f'cd gone; rmdir ../gone; exec "$0" -c "{MAIN}" describe efficientnet-b0'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == "error: the current folder was deleted; change to another one and start again"
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images and class folders whose names and labels hold control characters, or are no UTF-8."""
    folder = tmp_path_factory.mktemp("hostile")
    model = write_small_model(folder / "model", classes=3)
    (model.folder / "labels.txt").write_text(f"{HOSTILE.replace(chr(13), '')}\nb\nc\n", encoding="utf-8")
    split = data.open_dataset("digits").split("test")
    for name in (HOSTILE, "b"):
        (folder / "classes" / name).mkdir(parents=True)
        for number in range(6):
            split.image(number).save(folder / "classes" / name / f"{number}{HOSTILE}.png")
        (folder / "classes" / name / f"broken{HOSTILE}.png").write_bytes(b"none")
    (folder / "images").mkdir()
    for name in (HOSTILE, NOT_UTF8):
        split.image(0).save(folder / "images" / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "model", "images"),
        ("predict", "model", "classes"),
        ("predict", "model", "images", "--json"),
        ("predict", "model", "images", "--csv", "table.csv"),
        ("explain", "model", "images", "-o", "maps"),
        ("explain", "model", "images", "-o", "more-maps", "--json"),
        ("data", "describe", "classes"),
        ("data", "check", "classes"),
        ("data", "check", "classes", "-o", "report.html"),
        ("evaluate", "model", "classes"),
        pytest.param(("train", "classes", "--network", "efficientnet-b0", "-o", "trained"), marks=pytest.mark.slow),
        ("describe", HOSTILE),
        ("predict", HOSTILE, HOSTILE),
        ("predict", "model", HOSTILE),
        ("export", "model", "-o", HOSTILE),
        ("train", f"--{HOSTILE}"),
        (HOSTILE,),
    ],
)
def test_no_name_or_label_reaches_the_terminal_with_control_characters(
    arguments: tuple[str, ...], hostile: Path
) -> None:
    done = run(*arguments, cwd=hostile)
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert obeyed(done.stdout) | obeyed(done.stderr) == set()


def test_a_class_that_is_no_utf8_is_refused_before_the_training(hostile: Path, tmp_path: Path) -> None:
    for name in (NOT_UTF8, "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(4):
            data.open_dataset("digits").split("test").image(number).save(tmp_path / "classes" / name / f"{number}.png")
    done = run("train", "classes", "--network", "efficientnet-b0", "-o", "trained", cwd=tmp_path)
    assert done.returncode == 1 and r"the label caf\xe9 has bytes that are not UTF-8; rename the class" in done.stderr


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_image_that_is_no_file_is_named_at_once(kind: str, hostile: Path, tmp_path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "x.jpg")
    else:
        (tmp_path / "x.jpg").symlink_to("/dev/zero")
    done = run("predict", hostile / "model", "x.jpg", cwd=tmp_path)
    assert done.returncode == 1 and f"error: x.jpg: is a {kind}, not a file" in done.stderr
    done = run("predict", hostile / "model", ".", cwd=tmp_path)
    assert done.returncode == 1 and "1 entry that is not a regular file (x.jpg)" in done.stderr
    (tmp_path / "list.csv").write_text("path,label\nx.jpg,a\ny.jpg,b\n")
    done = run("data", "describe", "list.csv", cwd=tmp_path)
    assert done.returncode == 1 and "there is no file x.jpg" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("export", "model", "-o", "out/m.pt2", "--format", "torch"), marks=pytest.mark.slow),
        ("export", "model", "-o", "out/m.onnx"),
        ("models", "convert", "model", "--to", "timm", "-o", "out/w.pth"),
        ("models", "convert", "model", "--to", "timm", "-o", "out/w.safetensors"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(arguments: tuple[str, ...], hostile: Path) -> None:
    done = run(*arguments, cwd=hostile, fault={"bytes": 20_000})
    assert done.returncode == 1
    assert done.stderr.startswith("error: out/") and done.stderr.endswith("cannot be written: File too large\n")
    assert list((hostile / "out").iterdir()) == []
