"""A section of the report: one table or figure, or the reason why it is missing, and its verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import get_args

import msgspec

from compoundnet.paper.reproduction import LEFT_OUT, Figure, Table, TableCell, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class ReportSection(msgspec.Struct, frozen=True):
    """One table or figure of the report.

    Attributes:
        name: The name, as for `reproduce`.
        made: The table or figure; None if it was omitted or could not be made.
        problem: The reason why it could not be made; empty otherwise.
        command: The command that reproduces it alone.
        seconds: The duration in seconds.
    """

    name: str
    made: Table | Figure | None
    problem: str
    command: str
    seconds: float

    @property
    def title(self) -> str:
        """The printed title, or `Table 4` if it was not made."""
        return self.made.title if self.made is not None else f"{self.name[:-1].capitalize()} {self.name[-1]}"

    @property
    def counts(self) -> dict[Verdict, int]:
        """The number of cells of a table with each verdict; a figure has one verdict."""
        if isinstance(self.made, Table):
            found = Counter(cell.verdict for cell in _cells(self.made))
        else:
            found = Counter([self.made.verdict] if self.made is not None else [])
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def skipped(self) -> int:
        """The number of cells that --quick omitted."""
        return sum(cell.reason == LEFT_OUT for cell in _cells(self.made)) if isinstance(self.made, Table) else 0


def total(sections: Iterable[ReportSection]) -> dict[Verdict, int]:
    """Count the verdicts of several sections together."""
    return {verdict: sum(column) for verdict, column in zip(
        VERDICTS, zip(*(section.counts.values() for section in sections), strict=True), strict=True
    )}  # fmt: skip


def _cells(table: Table) -> list[TableCell]:
    return [cell for line in table.rows for cell in line.cells.values()]
