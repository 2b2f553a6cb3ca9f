"""Draw the picture of docs/fit.md and the README: accuracy against latency of a fit.

compoundnet fit photos/ --max-latency 25ms -o best
python tools/draw_fit.py best.fit docs/images/fit.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from compoundnet.base import write_whole
from compoundnet.fit import read_fit
from compoundnet.fit.front_plot import draw_front


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fit", type=Path, help="the folder NAME.fit")
    parser.add_argument("output", type=Path, help="the PNG file to write")
    given = parser.parse_args()
    write_whole(given.output, draw_front(read_fit(given.fit))[1])


if __name__ == "__main__":
    main()
