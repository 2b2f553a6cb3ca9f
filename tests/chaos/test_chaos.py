"""Four faults at random moments of quick commands, ten in the slow tests; `make chaos` takes 200, of all commands."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
from chaos import SCENARIOS, Chaos, Scenario, possible_faults

# Without `explain` and `predict`, which start a runtime.
QUICK = [scenario for scenario in SCENARIOS if scenario.name in ("convert", "convert to", "shard", "data check")]


@pytest.mark.parametrize("count", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_faults_lose_nothing(count: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first four, one in each command, are the same in both."""
    chaos = Chaos(tmp_path_factory.mktemp("chaos"), seed=0)
    faults = cycle(possible_faults())
    kills = [chaos.kill(scenario, next(faults)) for scenario in islice(cycle(QUICK), count)]
    assert [kill for kill in kills if kill.lost] == []
    assert any(kill.code != 0 for kill in kills)


@pytest.fixture(scope="module")
def slow_chaos(tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    """One folder for all slow commands, so that each runs undisturbed once."""
    return Chaos(tmp_path_factory.mktemp("slow-chaos"), seed=1)


@pytest.mark.slow  # each trains or exports
@pytest.mark.parametrize("fault", ("SIGKILL", "disk full"))
@pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if scenario.slow], ids=lambda it: it.name)
def test_a_fault_of_each_slow_command_loses_nothing(scenario: Scenario, fault: str, slow_chaos: Chaos) -> None:
    assert slow_chaos.kill(scenario, fault).lost == ""
