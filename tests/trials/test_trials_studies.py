"""Studies are found again, or it is said why not; passwords stay where they were given."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import quote

import msgspec
import optuna
import pytest
from postgresql import PASSWORD, USER
from small_search import small_search
from small_train import small_dataset, small_network

from compoundnet.base import CompoundNetError
from compoundnet.search import Search, open_study
from compoundnet.search.kinds import decode
from compoundnet.search.report import find, write_report
from compoundnet.search.study.lines import FigureNumber, paper_lines
from compoundnet.search.study.settings import NO_MODELS, ScalingStudy
from compoundnet.train import find_recipe
from compoundnet.trials.database import StudyDatabase
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.studies import OpenedStudy, create_study

DATA = data_identity(small_dataset())


def test_a_search_is_what_its_study_says(tmp_path: Path) -> None:
    created = create_study(small_search(), DATA, tmp_path / "study")
    opened = open_study(tmp_path / "study")
    assert opened.settings == created.settings == small_search()
    assert decode(msgspec.json.encode(small_search())) == small_search()
    assert 'grid = "1.0:1.4:0.2"' in (tmp_path / "study" / "search.toml").read_text()


def test_creating_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_attribute = optuna.Study.set_user_attr

    def interrupted(study: optuna.Study, key: str, value: object) -> None:
        if key == "search":
            raise KeyboardInterrupt
        set_attribute(study, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", interrupted)
        with pytest.raises(KeyboardInterrupt):
            create_study(small_search(), DATA, tmp_path / "study")
    with pytest.raises(CompoundNetError, match="has not begun; run the command that makes it"):
        open_study(tmp_path / "study")
    create_study(small_search(), DATA, tmp_path / "study")
    assert open_study(tmp_path / "study").settings == small_search()


def test_a_folder_of_another_search_names_what_differs(tmp_path: Path) -> None:
    create_study(small_search(), DATA, tmp_path / "study")
    with pytest.raises(CompoundNetError, match=r"another search: seeds is 1 there and 2 here"):
        create_study(small_search(seeds=2), DATA, tmp_path / "study")
    with pytest.raises(CompoundNetError, match=r"recipe\.epochs is 2.* there and 3.* here"):
        create_study(small_search(epochs=3), DATA, tmp_path / "study")
    with pytest.raises(CompoundNetError, match="other images"):
        create_study(small_search(), data_identity(small_dataset(train=61)), tmp_path / "study")
    assert open_study(tmp_path / "study").settings == small_search()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CompoundNetError, match="other files"):
        create_study(small_search(), DATA, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no study here"):
        open_study(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_study_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database " * 100)
    with pytest.raises(CompoundNetError, match="file is not a database"):
        open_study(tmp_path)


def test_a_search_of_an_unknown_kind() -> None:
    with pytest.raises(CompoundNetError, match="no kind of search named 'coefficient'; did you mean coefficients"):
        decode(msgspec.json.encode(small_search()).replace(b'"kind":"coefficients"', b'"kind":"coefficient"'))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:hush@host/db", r"mysql://; expected postgresql://"),
        ("postgresql://me:hu:sh@host:port/db", r"cannot be read; expected postgresql://"),
        ("://hush", "cannot be read"),
    ],
)
def test_a_url_that_is_none_is_not_repeated(url: str, message: str) -> None:
    with pytest.raises(CompoundNetError, match=message) as caught:
        StudyDatabase(url)
    assert "hush" not in str(caught.value) and "hu:sh" not in str(caught.value)


def test_a_folder_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="a folder is given as -o"):
        create_study(small_search(), DATA, tmp_path / "study", str(tmp_path))
    assert not (tmp_path / "study").exists()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        url = f"postgresql://me:hush@127.0.0.1:{taken.getsockname()[1]}/db"
        with pytest.raises(CompoundNetError, match=r"cannot be used as storage: .*refused") as caught:
            create_study(small_search(), DATA, tmp_path / "study", url)
    assert "hush" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_wrong_password_is_never_printed(tmp_path: Path, server: str) -> None:
    for url in (
        f"postgresql://{USER}:hush@{server}/postgres",
        f"postgresql://{USER}@{server}/postgres?password=hush",
    ):
        with pytest.raises(CompoundNetError, match="password authentication failed") as caught:
            create_study(small_search(), DATA, tmp_path / "study", url)
        assert "hush" not in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert not (tmp_path / "study").exists()


def test_a_study_on_a_server_is_found_from_its_folder(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    folder = tmp_path / "on-a-server"
    create_study(small_search(), DATA, folder, url).close()
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert PASSWORD.encode() not in written and quote(PASSWORD, safe="").encode() not in written
    assert msgspec.toml.decode((folder / "storage.toml").read_bytes())["study"] == "on-a-server"
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    opened = open_study(folder)
    assert opened.settings == small_search()
    assert PASSWORD not in opened.database.where
    opened.close()
    with pytest.raises(CompoundNetError, match=r"no study named 'on-the-server'; did you mean on-a-server"):
        open_study(url, "on-the-server")
    with pytest.raises(CompoundNetError, match="its study lies at postgresql://"):
        create_study(small_search(), DATA, folder)


def test_figure_8_on_a_server_says_that_it_keeps_no_models(tmp_path: Path, server: str) -> None:
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    cases: list[tuple[FigureNumber, str | None, int]] = [(8, url, 1), (3, url, 0), (8, None, 0)]
    for figure, place, notes in cases:
        search = ScalingStudy(figure, small_network(), paper_lines(figure), "greys", find_recipe("quick"))
        opened: OpenedStudy[Search] = create_study(search, DATA, tmp_path / f"figure{figure}-{notes}", place)
        found = find(opened)
        write_report(opened, tmp_path / "report")
        opened.close()
        assert found.notes.count(NO_MODELS) == found.document()["notes"].count(NO_MODELS) == notes
        assert (tmp_path / "report" / "report.md").read_text().count(NO_MODELS) == notes


@pytest.mark.parametrize("emptied", [b"", None])
def test_a_study_whose_database_was_emptied_does_not_start_again(emptied: bytes | None, tmp_path: Path) -> None:
    create_study(small_search(), DATA, tmp_path / "study").close()
    (tmp_path / "study" / "result.toml").write_text("alpha = 1.2")
    database = tmp_path / "study" / "study.db"
    database.unlink()
    if emptied is not None:
        database.write_bytes(emptied)
    for _ in range(2):
        with pytest.raises(CompoundNetError, match=r"holds no study any more, but .* emptied or removed"):
            create_study(small_search(), DATA, tmp_path / "study")
    assert (tmp_path / "study" / "result.toml").read_text() == "alpha = 1.2"
