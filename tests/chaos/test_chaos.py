"""Ten faults at random moments of quick commands; `make chaos` takes 200, of all commands."""

from __future__ import annotations

from itertools import cycle, islice, product

import pytest
from chaos import SCENARIOS, Chaos, Scenario, possible_faults

# Without `explain` and `predict`, which start a runtime.
QUICK = [scenario for scenario in SCENARIOS if scenario.name in ("convert", "convert to", "shard", "data check")]


def test_ten_faults_lose_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    chaos = Chaos(tmp_path_factory.mktemp("chaos"), seed=0)
    faults = cycle(possible_faults())
    kills = [chaos.kill(scenario, next(faults)) for scenario in islice(cycle(QUICK), 10)]
    assert [kill for kill in kills if kill.lost] == []
    assert any(kill.code != 0 for kill in kills)


@pytest.mark.slow  # each trains or exports
@pytest.mark.parametrize(
    ("scenario", "fault"),
    [pair for pair in product(SCENARIOS, ("SIGKILL", "disk full")) if pair[0].slow],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_fault_of_each_slow_command_loses_nothing(
    scenario: Scenario, fault: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert Chaos(tmp_path_factory.mktemp("chaos"), seed=1).kill(scenario, fault).lost == ""
