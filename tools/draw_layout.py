"""Draw what each package imports, from the imports themselves: `python tools/draw_layout.py FILE.svg`.

A row for each package, from the top layer down, and a dot for each package that it imports, larger for more imports.
The order is that of the layers' contract in pyproject.toml, so every dot lies right of the diagonal.
"""

from __future__ import annotations

import itertools
import sys
import tomllib
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
ROW, COLUMN, LEFT, TOP = 30, 30, 190, 92  # pixels
STYLE = """
.layout text { fill: currentColor; font: 13px system-ui, sans-serif; }
.layout .lines { opacity: .65; text-anchor: end; }
.layout .row { fill: currentColor; opacity: .05; }
.layout .self { fill: currentColor; opacity: .25; }
.layout .dot { fill: #4051b5; opacity: .85; }
[data-md-color-scheme="slate"] .layout .dot { fill: #9aa7ff; }
"""


def layers(root: Path = ROOT) -> list[str]:
    """The packages' names, from the one that may import all others down to the one that may import none."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    names = itertools.chain.from_iterable(line.replace(":", "|").split("|") for line in contract["layers"])
    return [name.strip().removeprefix("compoundnet.") for name in names]


def imports(packages: set[str]) -> Counter[tuple[str, str]]:
    """How many imports each of the packages has of each other one."""
    graph = grimp.build_graph("compoundnet", exclude_type_checking_imports=True)
    found: Counter[tuple[str, str]] = Counter()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = tuple(name.split(".")[1] if "." in name else "" for name in (importer, imported))
            if set(pair) <= packages and pair[0] != pair[1]:
                found[pair] += 1
    return found


def line_count(package: str) -> int:
    files = (ROOT / "src/compoundnet" / package).rglob("*.py")
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def draw(names: list[str], counts: Counter[tuple[str, str]]) -> str:
    width, height = LEFT + COLUMN * len(names) + 40, TOP + ROW * len(names) + 8
    most = max(counts.values())
    parts = [
        f'<svg class="layout" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="Which package imports which">',
        f"<style>{STYLE}</style>",
        f'<text x="8" y="{TOP - 12}">package</text><text class="lines" x="{LEFT - 22}" y="{TOP - 12}">lines</text>',
    ]
    for index, name in enumerate(names):
        x, y = LEFT + COLUMN * index + COLUMN // 2, TOP + ROW * index
        if index % 2 == 0:
            parts.append(f'<rect class="row" x="0" y="{y}" width="{width}" height="{ROW}" rx="4"/>')
        parts.append(f'<text x="8" y="{y + 20}">{name}</text>')
        parts.append(f'<text class="lines" x="{LEFT - 22}" y="{y + 20}">{line_count(name):,}</text>')
        parts.append(f'<text transform="translate({x + 4},{TOP - 12}) rotate(-55)">{name}</text>')
        parts.append(f'<rect class="self" x="{x - 5}" y="{y + 10}" width="10" height="10" rx="2"/>')
    for (importer, imported), count in sorted(counts.items()):
        x = LEFT + COLUMN * names.index(imported) + COLUMN // 2
        y = TOP + ROW * names.index(importer) + ROW // 2
        radius = 3 + 8 * (count / most) ** 0.5
        title = f"{importer} imports {imported}: {count} imports"
        parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="{radius:.1f}"><title>{title}</title></circle>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    names = layers()
    Path(sys.argv[1]).write_text(draw(names, imports(set(names))), encoding="utf-8")


if __name__ == "__main__":
    main()
