"""A section of the report: one table or figure, or why it is missing, and its verdicts."""

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
        name: As `reproduce` takes it.
        made: None where it was left out, or could not be made.
        problem: Why it could not be made; empty otherwise.
        command: The command that makes it again, alone.
        seconds: How long it took.
    """

    name: str
    made: Table | Figure | None
    problem: str
    command: str
    seconds: float

    @property
    def title(self) -> str:
        """As printed, or `Table 4` where there is nothing."""
        return self.made.title if self.made is not None else f"{self.name[:-1].capitalize()} {self.name[-1]}"

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells of a table have each verdict; a figure has one."""
        if isinstance(self.made, Table):
            found = Counter(cell.verdict for cell in _cells(self.made))
        else:
            found = Counter([self.made.verdict] if self.made is not None else [])
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def skipped(self) -> int:
        """Cells that --quick has left out."""
        return sum(cell.reason == LEFT_OUT for cell in _cells(self.made)) if isinstance(self.made, Table) else 0


def total(sections: Iterable[ReportSection]) -> dict[Verdict, int]:
    """Count the verdicts of several sections together."""
    return {verdict: sum(column) for verdict, column in zip(
        VERDICTS, zip(*(section.counts.values() for section in sections), strict=True), strict=True
    )}  # fmt: skip


def _cells(table: Table) -> list[TableCell]:
    return [cell for line in table.rows for cell in line.cells.values()]
