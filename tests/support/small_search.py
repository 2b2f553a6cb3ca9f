"""A search of coefficients whose trials train in a second or two each."""

from __future__ import annotations

import sys
from pathlib import Path

from small_train import small_dataset, small_network

from compoundnet.search import CoefficientSearch, run
from compoundnet.train import find_recipe, override


def small_search(data: str = "greys", seeds: int = 1, epochs: int = 2) -> CoefficientSearch:
    """Five points."""
    recipe = override(find_recipe("quick"), [f"epochs={epochs}", "batch=8"])
    return CoefficientSearch(small_network(), data, recipe, grid="1.0:1.4:0.2", seeds=seeds)


def main() -> None:
    """`small_search.py FOLDER`: runs it and says each finished trial."""
    run(small_search(), small_dataset(), Path(sys.argv[1]), notify=lambda text: print(text, flush=True)).close()


if __name__ == "__main__":
    main()
