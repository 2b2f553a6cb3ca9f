"""A scaling study that trains."""

from __future__ import annotations

from pathlib import Path

from small_train import small_dataset, small_network

from compoundnet.arch import Network
from compoundnet.models import read_folder
from compoundnet.search.execution import run
from compoundnet.search.study.lines import paper_lines
from compoundnet.search.study.settings import ScalingStudy
from compoundnet.train import find_recipe, override


def test_a_study_trains_to_the_end_and_keeps_the_networks_of_table_7(tmp_path: Path) -> None:
    recipe = override(find_recipe("quick"), ["steps=2", "batch=8"])
    search = ScalingStudy(8, small_network(), paper_lines(8), "greys", recipe, 1)
    opened = run(search, small_dataset(), tmp_path / "study")
    trials = opened.study.get_trials()
    opened.close()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    kept = {place.name: read_folder(tmp_path / "study" / "models" / place.name) for place in search.places()}
    assert set(kept) == {"baseline", "width-w2", "depth-d4", "resolution-r2", "compound-d1.4-w1.2-r1.3"}
    for place in search.places():
        assert _stages(kept[place.name].network) == _stages(place.network)
        assert kept[place.name].preprocess.size == place.network.resolution
    assert {file.name for file in (tmp_path / "study").glob("figure8.*")} == {"figure8.svg", "figure8.png"}


def _stages(net: Network) -> list[tuple[int, int]]:
    return [(stage.channels, stage.repeats) for stage in net.stages]
