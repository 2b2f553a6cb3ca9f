"""What a budget bounds: what each figure is called, and how its values are written and read."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from compoundnet.base import format_bytes, format_count, parse_bytes, parse_count, parse_duration


class BoundedFigure(msgspec.Struct, frozen=True):
    """A figure that a budget bounds.

    Attributes:
        name: The bound in `Limits` and in the profile of a device.
        cost: The figure of a `Candidate`, by its name; "" of the latency, which is measured.
        noun: What it is called, such as "size of the file".
        amount: What follows its value, such as "of file".
        text: Writes a value.
        parse: Reads a value as it is typed.
    """

    name: str
    cost: str
    noun: str
    amount: str
    text: Callable[[float], str]
    parse: Callable[[str], float]

    @property
    def option(self) -> str:
        """The option that gives it."""
        return f"--{self.name.replace('_', '-')}"

    def typed(self, value: float) -> str:
        """Return a value as it is typed."""
        return self.text(value).replace(" ", "")

    def of(self, costs: object) -> float:
        """Return the figure of a candidate."""
        return float(getattr(costs, self.cost))


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 999.5 else f"{value / 1e3:.3g} s"


LATENCY = BoundedFigure("max_latency", "", "latency", "of latency", _milliseconds, parse_duration)
# Those that are exact before anything is measured.
COSTS = (
    BoundedFigure("max_size", "size_bytes", "size of the file", "of file", format_bytes, parse_bytes),
    BoundedFigure("max_macs", "macs", "multiply-adds", "multiply-adds", format_count, parse_count),
    BoundedFigure("max_params", "params", "parameters", "parameters", format_count, parse_count),
    BoundedFigure("max_memory", "memory_bytes", "memory", "of memory", format_bytes, parse_bytes),
    BoundedFigure("max_sram", "sram_bytes", "SRAM in int8", "of SRAM", format_bytes, parse_bytes),
    BoundedFigure("max_flash", "flash_bytes", "flash in int8", "of flash", format_bytes, parse_bytes),
)
BOUNDS = (LATENCY, *COSTS)
