"""Fonts for text of any script: the project's own, or one that is found on the machine.

DejaVu Sans is part of matplotlib and has the Latin, Greek, Cyrillic, Arabic and Hebrew letters, so plots are the same
on every machine. For other scripts a font of the machine is used; where there is none, a text is replaced by another,
such as the number of a class, and a line in the log says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)

OWN = "DejaVu Sans"
_SHOWN = 20
_told = set[str]()


def font_file(text: str, *, bold: bool = False) -> Path | None:
    """Return the file of one font with all characters of a text: the project's own if it has them; None if none has."""
    if not _missing(text):
        return _own("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return _found(frozenset(map(ord, text)) - {ord(" ")})


def families(texts: Iterable[str]) -> list[str]:
    """Return matplotlib's names of the fonts for these texts, the project's own first. Adds them to its list.

    matplotlib takes each character from the first of them that has it.
    """
    from matplotlib import font_manager  # noqa: PLC0415  slow; only drawing needs matplotlib

    names = [OWN]
    for missing in filter(None, map(_missing, texts)):
        file = _found(missing)
        if file is not None:
            font_manager.fontManager.addfont(file)
            name = font_manager.FontProperties(fname=file).get_name()
            names += [name] if name not in names else []
    return names


def legible(texts: Sequence[str], instead: Sequence[str], where: str = "", *, one_font: bool = False) -> list[str]:
    """Return texts that can be drawn: each of `texts`, or that of `instead` if no font has all its characters.

    What was replaced is logged as a legend, once for each `where`: give all the names at once.

    Args:
        texts: Such as the names of classes.
        instead: What stands for each of them, such as `class 3`.
        where: What the texts are, for the log.
        one_font: Whether one font must have all characters of a text, as in images; in plots, those that the project's
            own font lacks are enough.
    """

    def able(text: str) -> bool:
        missing = _missing(text)
        return not missing or (font_file(text) if one_font else _found(missing)) is not None

    drawn = [text if able(text) else other for text, other in zip(texts, instead, strict=True)]
    replaced = {other: text for text, other, shown in zip(texts, instead, drawn, strict=True) if shown != text}
    if replaced and where not in _told:
        _told.add(where)
        legend = ", ".join(f"{other} = {text}" for other, text in list(replaced.items())[:_SHOWN])
        more = f" and {len(replaced) - _SHOWN} more" if len(replaced) > _SHOWN else ""
        _log.warning(
            "no font on this machine has all characters, so plots and images show %s%s%s; install a font of the script,"
            " such as Noto Sans CJK (Debian: fonts-noto-cjk)",
            legend,
            more,
            f" ({where})" if where else "",
        )
    return drawn


def _missing(text: str) -> frozenset[int]:
    """The characters that the project's own font lacks."""
    return frozenset(map(ord, text)) - _characters(str(_own("DejaVuSans.ttf"))) - {ord("\n")}


def _own(name: str) -> Path:
    from matplotlib import get_data_path  # noqa: PLC0415  as above

    return Path(get_data_path()) / "fonts" / "ttf" / name


@cache
def _characters(file: str) -> frozenset[int]:
    """The characters of a font; none if it cannot be opened."""
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415  as above

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@cache
def _found(characters: frozenset[int]) -> Path | None:
    """A font of the machine with all these characters, Noto's and plain ones before others."""
    return next((Path(file) for file in _machine_fonts() if characters <= _characters(file)), None)


@cache
def _machine_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415  as above

    def rank(file: str) -> tuple[bool, bool, str]:
        name = Path(file).name
        return "Noto" not in name, not any(kind in name for kind in ("Regular", "Sans.", "Medium")), file

    return tuple(sorted(findSystemFonts(), key=rank))
