"""results.json as a page of Markdown, headed by the card and the date."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Return the page."""
    lines = [f"# {results['card']}, {results['date']}", ""]
    for name, section in results["sections"].items():
        lines += [f"## {name}", ""]
        if section["error"]:
            lines += [f"**Not complete: {section['error']}**", ""]
        lines += [*_WRITERS.get(name, _facts)(section["rows"]), ""]
    return "\n".join(lines)


def _facts(rows: list[Row]) -> list[str]:
    return ["; ".join(f"{key} {value}" for key, value in row.items()) + "  " for row in rows]


def _tests(rows: list[Row]) -> list[str]:
    counts = [row for row in rows if "passed" in row]
    rest = [f"- {row.get('test', 'pytest')}: {row.get('error') or 'skipped: ' + row['skipped']}"
            for row in rows if "passed" not in row]  # fmt: skip
    return [*_facts(counts), "", *rest]


def _contest(rows: list[Row]) -> list[str]:
    """One table for each network and batch; the ratio is of our images a second to theirs in the same mode."""
    lines: list[str] = []
    for network, batch, size in dict.fromkeys((row["network"], row["batch"], row["size"]) for row in rows):
        members = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
        ours = {row["mode"]: row["ms"] for row in members if row["library"] == "compoundnet" and "ms" in row}
        lines += ["", f"{network.upper()}, {size} px, batch {batch}", ""]
        lines += _table(
            (
                "library", "mode", "images/s", "ms", "range", "one call, ms", "peak MB", "compiled in s", "ready in s",
                "ours is",
            ),
            (
                (
                    row["library"], row["mode"], f"{row['images_per_second']:,.0f}", f"{row['ms']:.3g}",
                    "{:.3g} to {:.3g}".format(*row["ms_range"]), _number(row.get("latency_ms")),
                    _number(row.get("peak_mb")), _number(row.get("compile_s")), _number(row.get("prepare_s")),
                    f"{row['ms'] / ours[row['mode']]:.2f}x" if row["mode"] in ours else "",
                )
                if "ms" in row else (row["library"], row["mode"], row["error"])
                for row in sorted(members, key=lambda row: row.get("ms", 1e9))
            ),
        )  # fmt: skip
    return lines


def _engine(rows: list[Row]) -> list[str]:
    columns = "measured", "images_per_second", "workers", "of_the_step", "of_the_loader", "waits_for"
    measured = [row for row in rows if "measured" in row]
    facts = _facts([row for row in rows if "measured" not in row])
    return [*facts, "", *_table(columns, ([_number(row.get(name)) for name in columns] for row in measured))]


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(columns)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = list(row)
        lines.append("| " + " | ".join([*cells, *[""] * (len(names) - len(cells))]) + " |")
    return lines


def _number(value: object) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


_WRITERS = {"tests": _tests, "training": _contest, "inference": _contest, "engine": _engine}
