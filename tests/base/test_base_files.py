"""A file or folder is there whole or not at all, whatever stops the process that writes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compoundnet.base import (
    UnwritableError,
    check_output_file,
    make_folder,
    remove_all_scratch,
    remove_scratch,
    scratch_folder,
    whole_file,
    whole_folder,
    write_whole,
)
from compoundnet.base.errors import CompoundNetError

# Each writes half of TARGET, says so, and waits to be killed.
_HALVES = {
    "file": "with whole_file(target) as part: part.write_bytes(b'half'); wait()",
    "folder": "with whole_folder(target) as part: (part / 'new').write_bytes(b'half'); wait()",
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    start = "import sys; from pathlib import Path; from compoundnet.base import *; target = Path(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_file_replaces_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with whole_file(target) as part:
        part.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert files_of(tmp_path) == {"target": b"new"}
    write_whole(target, b"newer")
    assert files_of(tmp_path) == {"target": b"newer"}


def test_a_new_file_may_be_read_by_whoever_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "target", b"new")
        with whole_folder(tmp_path / "folder") as part:
            (part / "file").write_bytes(b"new")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"target": 0o644, "folder": 0o755, "file": 0o644}


def test_a_folder_replaces_the_old_one_and_the_folders_above_are_made(tmp_path: Path) -> None:
    target = tmp_path / "above" / "target"
    for content in (b"old", b"new"):
        with whole_folder(target) as part:
            assert list(part.iterdir()) == []
            (part / content.decode()).write_bytes(content)
    assert files_of(tmp_path) == {"above/target/new": b"new"}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").symlink_to(tmp_path / "above" / "real")  # does not exist yet
    for content in (b"old", b"new"):
        with whole_folder(tmp_path / "folder") as part:
            (part / content.decode()).write_bytes(content)
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "folder").is_symlink() and (tmp_path / "file").is_symlink()
    assert files_of(tmp_path) == {"above/real": b"new", "elsewhere/new": b"new", "file": b"new"}


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    reader = python("print(target.read_bytes())", tmp_path / "pipe")
    for name in ("pipe", "null"):
        check_output_file(tmp_path / name)
        write_whole(tmp_path / name, b"written")
    assert reader.communicate(timeout=60)[0] == "b'written'\n"
    assert (tmp_path / "pipe").is_fifo() and Path("/dev/null").is_char_device()


def test_the_scratch_of_dead_processes_is_swept_and_that_of_others_stays(tmp_path: Path) -> None:
    wait = "with scratch_folder(target) as part: print(part, flush=True); sys.stdin.read()"
    dead, alive = (python(wait, tmp_path / name) for name in ("dead", "alive"))
    assert dead.stdout is not None and alive.stdout is not None
    left, kept = (Path(process.stdout.readline().strip()) for process in (dead, alive) if process.stdout)
    dead.kill()
    dead.communicate()
    assert left.is_dir() and kept.is_dir()
    python("write_whole(target, b'new')", tmp_path / "another").communicate(timeout=60)
    assert not left.exists() and kept.is_dir()
    alive.communicate(timeout=60)
    assert files_of(tmp_path) == {"another": b"new"}


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), RuntimeError("a fault"), MemoryError()])
def test_an_exception_leaves_the_old_one(tmp_path: Path, problem: BaseException) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(type(problem)), whole_file(tmp_path / "file") as part:
        part.write_bytes(b"half")
        raise problem
    with pytest.raises(type(problem)), whole_folder(tmp_path / "folder") as part:
        (part / "half").write_bytes(b"half")
        raise problem
    assert files_of(tmp_path) == {"file": b"old"}
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("kind", _HALVES)
def test_a_killed_process_leaves_the_old_one_and_scratch_that_can_be_removed(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_bytes(b"old")
    else:
        target.mkdir()
        (target / "old").write_bytes(b"old")
    before = files_of(tmp_path)
    process = python("def wait(): print('half', flush=True); sys.stdin.read()\n" + _HALVES[kind], target)
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    scratch = [path for path in tmp_path.iterdir() if path != target]
    assert len(scratch) == 1 and scratch[0].name.startswith(".target.") and scratch[0].suffix == ".part"
    remove_scratch(target)
    assert files_of(tmp_path) == before
    assert list(tmp_path.iterdir()) == [target]


# Each replaces `target`, and with it `target.bin`, by new ones.
_REPLACEMENTS = {
    "folder": "with whole_folder(target) as part: (part / 'content').write_bytes(b'new')",
    "files": """with scratch_folder(target) as scratch:
    moves = {}
    for name in ('target.bin', 'target'):
        (scratch / name).write_bytes(b'new')
        moves[scratch / name] = target.parent / name
    replace_together(scratch, moves)""",
}
# Stops right after the rename of that number, as a signal does.
_STOPS = """
import os
def stopping(rename, left=[int(sys.argv[2])]):
    def renamed(*paths, **folders):
        rename(*paths, **folders)
        left[0] -= 1
        if left[0] == 0:
            stop()
    return renamed
os.rename, os.replace = stopping(os.rename), stopping(os.replace)
"""
_INTERRUPTED = "def stop(): raise KeyboardInterrupt"
_KILLED = "def stop(): os.kill(os.getpid(), 9)"


@pytest.mark.parametrize("stop", [_INTERRUPTED, _KILLED], ids=["interrupted", "killed"])
@pytest.mark.parametrize(("kind", "renames"), [("folder", 3), ("files", 5)])
def test_between_two_renames_nothing_is_lost(tmp_path: Path, kind: str, renames: int, stop: str) -> None:
    """Both the old and the new are in the scratch folder then, which is removed."""
    names = ["target/content"] if kind == "folder" else ["target", "target.bin"]
    for number in {1, 2, renames - 1, renames}:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"old")
        python(f"{stop}\n{_STOPS}\n{_REPLACEMENTS[kind]}", folder / "target", str(number)).communicate(timeout=60)
        if stop == _KILLED:
            write_whole(folder / "another", b"")
            (folder / "another").unlink()
        assert files_of(folder) == dict.fromkeys(names, b"old" if number < renames else b"new")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives a folder to another user")
def test_what_another_user_calls_scratch_replaces_nothing(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    scratch = shared / ".target.abcdefgh.part"
    (scratch / scratch.name).mkdir(parents=True)
    (scratch / scratch.name / "target").write_bytes(b"planted")
    os.chown(scratch, 65534, 65534)
    (shared / "link").symlink_to(scratch)
    (shared / "link").rename(shared / ".target.12345678.part")
    os.chown(shared / ".target.12345678.part", 65534, 65534, follow_symlinks=False)
    write_whole(shared / "target", b"own")
    remove_all_scratch(shared)
    assert (shared / "target").read_bytes() == b"own"
    assert scratch.is_dir()


def test_an_error_between_two_renames_puts_the_old_back(tmp_path: Path) -> None:
    write_whole(tmp_path / "target" / "content", b"old")
    with pytest.raises(UnwritableError), whole_folder(tmp_path / "target") as part:
        part.rmdir()  # so that it cannot be renamed
    assert files_of(tmp_path) == {"target/content": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_scratch_of_another_target_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "target.v2") as other, scratch_folder(tmp_path / "target") as own:
        remove_scratch(tmp_path / "target")
        assert other.exists()
        assert not own.exists()


def test_scratch_of_a_name_with_special_characters_is_found(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "target[*]?") as scratch:
        remove_scratch(tmp_path / "target[*]?")
        assert not scratch.exists()


@pytest.mark.parametrize(
    "kind",
    [
        "write_whole(target, b'x' * 100_000)",
        "with whole_folder(target) as part: (part / 'new').write_bytes(b'x' * 100_000)",
    ],
)
def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path, kind: str) -> None:
    # The system refuses a file of more than 10 kB, as a full disk does.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))"
    limited = f"{limit}\ntry:\n  {kind}\nexcept UnwritableError as error: print(error)"
    stdout, stderr = python(limited, tmp_path / "target").communicate(timeout=60)
    assert stdout == f"{tmp_path / 'target'}: cannot be written: File too large\n", stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below = tmp_path / "file" / "below"
    for write in (make_folder, lambda path: write_whole(path, b"")):
        with pytest.raises(UnwritableError, match=r"file/below: cannot be written: Not a directory$"):
            write(below)
    with pytest.raises(UnwritableError, match=r"file: cannot be written: File exists$"):
        make_folder(tmp_path / "file")


def test_a_future_file_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output_file(tmp_path / "new.json")
    check_output_file(tmp_path / "missing" / "folders" / "new.json")
    assert not (tmp_path / "missing").exists()
    write_whole(tmp_path / "missing" / "folders" / "new.json", b"new")
    with pytest.raises(CompoundNetError, match=r"missing: is a folder; give the name of a file"):
        check_output_file(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(CompoundNetError, match=r"new.json: cannot be written: .*file is not a folder"):
        check_output_file(tmp_path / "file" / "below" / "new.json")


def test_a_folder_of_any_name_is_replaced(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with whole_folder(tmp_path / "replaced") as folder:
            (folder / "file").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["replaced"]
    assert (tmp_path / "replaced" / "file").read_text() == "second"


def test_all_scratch_of_a_folder_and_nothing_else_is_removed(tmp_path: Path) -> None:
    for name in (".step-1.pt.abcdefgh.part", ".other.12345678.part"):
        (tmp_path / name / "inside").mkdir(parents=True)
    for kept in ("step-1.pt", ".step-1.pt.short.part", ".hidden"):
        (tmp_path / kept).touch()
    remove_all_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".step-1.pt.short.part", "step-1.pt"]
