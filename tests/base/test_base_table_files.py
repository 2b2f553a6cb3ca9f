"""Tables written row by row: quoting, cells that spreadsheets must not compute, names that are not UTF-8, wholeness."""

from __future__ import annotations

import csv
import os
from pathlib import Path, PurePath

import pytest

from compoundnet.base import CompoundNetError
from compoundnet.base.table_files import csv_file, parquet_file

COLUMNS = (("file", PurePath), ("label", str), ("probability", float), ("rank", int), ("correct", bool))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_values_are_written_so_that_csv_reads_them_back(tmp_path: Path) -> None:
    rows = [
        ("a, b.jpg", 'the "best"', 0.1, 1, True),
        ("two\nlines.jpg", "翘头剪", 1e-09, 12, False),
        ("empty.jpg", None, None, None, None),
    ]
    with csv_file(tmp_path / "t.csv", COLUMNS) as write:
        for row in rows:
            write(row)
    assert rows_of(tmp_path / "t.csv") == [
        ["file", "label", "probability", "rank", "correct"],
        ["a, b.jpg", 'the "best"', "0.1", "1", "true"],
        ["two\nlines.jpg", "翘头剪", "1e-09", "12", "false"],
        ["empty.jpg", "", "", "", ""],
    ]
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_no_cell_is_computed_by_a_spreadsheet(tmp_path: Path, start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    with csv_file(tmp_path / "t.csv", [*COLUMNS[:2], (text, str)]) as write:
        write((text, text, text))
    heading, row = rows_of(tmp_path / "t.csv")
    assert heading == ["file", "label", f"'{text}"]
    assert row == [f"./{text}", f"'{text}", f"'{text}"]  # ./NAME is the same file


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    with csv_file(tmp_path / "t.csv", [("x", float), ("n", int)]) as write:
        write((-1.5, -3))
    assert rows_of(tmp_path / "t.csv")[1] == ["-1.5", "-3"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    with csv_file(tmp_path / "t.csv", COLUMNS[:2]) as write:
        write((name, "\ud800"))
    assert rows_of(tmp_path / "t.csv")[1] == [r"caf\xe9.jpg", r"\ud800"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt), csv_file(tmp_path / "t.csv", COLUMNS[:1]) as write:
        write(("a.jpg",))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "old"
    with pytest.raises(CompoundNetError, match="cannot be written"), csv_file(tmp_path / "t.csv" / "t.csv", COLUMNS):
        pass


def test_parquet_has_types_and_any_number_of_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    count = 45_000  # more than two groups
    with parquet_file(tmp_path / "t.parquet", COLUMNS) as write:
        for number in range(count):
            write((os.fsdecode(b"=\xe9"), None, number / count, number, number % 2 == 0))
    table = parquet.read_table(tmp_path / "t.parquet")
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double", "int64", "bool"]
    assert table.num_rows == count
    assert table.slice(count - 1).to_pylist() == [
        {"file": r"=\xe9", "label": None, "probability": (count - 1) / count, "rank": count - 1, "correct": False}
    ]
    with parquet_file(tmp_path / "none.parquet", COLUMNS):
        pass
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0
