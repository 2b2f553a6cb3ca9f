"""What is kept on disk: whole or not at all, and made anew where it is not what it should be."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compoundnet.base import CompoundNetError
from compoundnet.runtime import cache
from compoundnet.runtime.cache import location, stored

IDENTITY = {"weights": "abc", "version": "1"}


def write(folder: Path) -> None:
    (folder / "result").write_text("made")


def refuse(_: Path) -> None:
    raise AssertionError("it should have been there")


def get(make: Callable[[Path], None] = write, identity: dict[str, str] | None = IDENTITY) -> str:
    with stored("kind", "name", identity, make, "writing a word") as folder:
        return (folder / "result").read_text()


def test_made_once(empty_cache: Path) -> None:
    assert get() == "made"
    assert get(refuse) == "made"


def test_making_is_told_and_finding_is_not(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        get()
    assert caplog.messages == ["name: writing a word; this is done once and kept"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        get()
    assert caplog.messages == []


def entry(version: str, last_used: float) -> Path:
    """An entry that was last used that many seconds ago."""
    identity = {**IDENTITY, "version": version}
    folder = location("kind", "name", identity)
    get(identity=identity)
    when = time.time() - last_used
    os.utime(folder, (when, when))
    return folder


def test_entries_that_were_used_long_ago_make_room(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = 3600.0
    older, oldest, newer = entry("older", 20 * hours), entry("oldest", 30 * hours), entry("newer", 10 * hours)
    sizes = sum(file.stat().st_size for file in empty_cache.rglob("*") if file.is_file())
    monkeypatch.setattr(cache, "_MOST_BYTES", sizes - 50)
    added = entry("added", 0)
    assert [folder.is_dir() for folder in (oldest, older, newer, added)] == [False, False, True, True]
    assert not list(empty_cache.glob(f"sessions/.{oldest.name}*"))


def test_use_makes_an_entry_stay(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, other = entry("used", 9e5), entry("other", 8e5)
    get(refuse, {**IDENTITY, "version": "used"})
    monkeypatch.setattr(cache, "_MOST_BYTES", 0)
    get()
    assert [folder.is_dir() for folder in (used, other)] == [True, False]


def test_what_was_used_within_the_hour_stays_though_there_is_no_room(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 0)
    assert entry("one", 0).is_dir()
    assert entry("two", 0).is_dir()
    assert len(list((empty_cache / "sessions").glob("name-kind-*"))) == 2


def test_another_identity_is_another_entry(empty_cache: Path) -> None:
    get()
    with pytest.raises(AssertionError):
        get(refuse, {**IDENTITY, "version": "2"})


def test_without_an_identity_nothing_is_kept(empty_cache: Path) -> None:
    assert get(identity=None) == "made"
    assert not empty_cache.exists()


def test_a_name_from_a_file_cannot_leave_the_cache(empty_cache: Path) -> None:
    assert location("kind", "../../etc/passwd", IDENTITY).parent == empty_cache / "sessions"


def damage(folder: Path) -> None:
    (folder / "result").write_text("something else")


def lose(folder: Path) -> None:
    (folder / "result").unlink()


def exchange(folder: Path) -> None:
    entry = json.loads((folder / "entry.json").read_text())
    entry["identity"]["weights"] = "of another model"
    (folder / "entry.json").write_text(json.dumps(entry))


def garble(folder: Path) -> None:
    (folder / "entry.json").write_text("{")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("what is this?")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (damage, "is damaged (result)"),
        (lose, "is incomplete (result)"),
        (exchange, "was made from something else"),
        (garble, "is not one"),
        (empty, "is not one"),
        (replace_by_file, "is not one"),
    ],
)
def test_a_spoilt_entry_is_made_anew_and_told(
    spoil: Callable[[Path], None], told: str, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    get()
    spoil(location("kind", "name", IDENTITY))
    with caplog.at_level(logging.WARNING):
        assert get() == "made"
    assert f"{told}; making it anew" in caplog.text
    caplog.clear()
    assert get(refuse) == "made"
    assert caplog.text == ""


def test_what_fails_leaves_nothing(empty_cache: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise CompoundNetError("no")

    with pytest.raises(CompoundNetError, match="no"):
        get(fail)
    assert [path.name for path in (empty_cache / "sessions").iterdir() if path.is_dir()] == []
    assert get() == "made"


def no_space(folder: Path) -> None:
    (folder / "half").write_text("ma")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_done_without(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    def make(folder: Path) -> None:
        (no_space if empty_cache in folder.parents else write)(folder)

    assert get(make) == "made"
    assert "cannot be written: No space left on device, so the next start takes as long" in caplog.text
    assert [path.name for path in (empty_cache / "sessions").iterdir() if path.is_dir()] == []
    assert get() == "made"
    assert get(refuse) == "made"


def test_no_space_for_temporary_files_either_is_an_error(empty_cache: Path) -> None:
    with pytest.raises(CompoundNetError, match="cannot be written: No space left on device; TMPDIR names another"):
        get(no_space)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_others_may_read_an_entry_where_the_user_s_mask_lets_them(empty_cache: Path) -> None:
    before = os.umask(0o022)
    try:
        get()
    finally:
        os.umask(before)
    folder = location("kind", "name", IDENTITY)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "entry.json")] == [0o755, 0o644]


def test_what_a_killed_process_left_is_cleared_away(empty_cache: Path) -> None:
    folder = location("kind", "name", IDENTITY)
    left = folder.parent / f".{folder.name}.abcdefgh.part"
    left.mkdir(parents=True)
    get()
    assert not left.exists()


def test_two_at_once_make_it_once(empty_cache: Path) -> None:
    made, entered, go_on = [], threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        entered.set()
        go_on.wait(10)
        made.append(folder)
        write(folder)

    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(get(slowly))) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert results == ["made", "made"]
    assert len(made) == 1


def test_a_cache_that_cannot_be_written_is_told_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path / "file"))
    assert get() == "made"
    assert "cannot be written" in caplog.text
    assert "COMPOUNDNET_CACHE" in caplog.text
