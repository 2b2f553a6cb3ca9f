"""plan: the largest network that fits, exactly; which bound binds; what cannot fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compoundnet import arch, base

B0 = arch.network("efficientnet-b0")


def test_the_papers_compound_network_is_the_answer_to_its_budget() -> None:
    found = arch.plan(B0, max_macs=1.8e9)
    # Table 7: d=1.4, w=1.2, r=1.3 at 1.8B.
    assert (round(found.depth, 1), round(found.width, 1), round(found.resolution / 224, 1)) == (1.4, 1.2, 1.3)
    assert found.binding == "macs"
    assert found.macs == arch.cost(found.network).macs <= 1.8e9


@settings(max_examples=25, deadline=None)
@given(st.floats(2e7, 5e10))
def test_no_larger_phi_fits(limit: float) -> None:
    found = arch.plan(B0, max_macs=limit)
    assert found.macs <= limit
    assert arch.compound(B0, found.phi) == found.network
    for step in (1e-3, 0.01, 0.1, 0.5):
        assert arch.cost(arch.compound(B0, found.phi + step)).macs > limit or found.network == arch.compound(
            B0, found.phi + step
        ).replace(name=found.network.name, scaling=found.network.scaling)


def test_each_bound_can_bind() -> None:
    assert arch.plan(B0, max_macs=1e12, max_params=12e6).binding == "params"
    assert arch.plan(B0, max_macs=1e12, max_memory=100e6).binding == "memory"
    found = arch.plan(B0, max_macs=1e12, max_memory=2e9, training=True, batch=8)
    assert found.binding == "training memory"
    assert found.memory_bytes == arch.cost(found.network, batch=8).training_memory_bytes <= 2e9


def test_below_the_baseline() -> None:
    found = arch.plan(B0, max_macs=1e8)
    assert found.phi < 0
    assert found.macs <= 1e8


def test_alternatives_keep_the_budget_in_one_dimension() -> None:
    found = arch.plan(B0, max_macs=1.8e9)
    for dimension, row in found.alternatives.items():
        assert row is not None
        assert row.macs <= 1.8e9
        assert [row.depth != 1, row.width != 1, row.resolution != 224].count(True) == 1, dimension


def test_resolution_alone_cannot_answer_a_bound_on_parameters() -> None:
    found = arch.plan(B0, max_params=12e6)
    assert found.alternatives["resolution"] is None
    assert found.alternatives["width"] is not None


def test_what_cannot_fit_names_the_bound_and_the_least() -> None:
    with pytest.raises(base.CompoundNetError, match=r"params of at most 1,000 was asked.*needs [0-9,]+") as caught:
        arch.plan(B0, max_macs=1e9, max_params=1000)
    least = int(str(caught.value).rsplit("needs ", 1)[1].replace(",", ""))
    assert arch.plan(B0, max_params=least).params == least


def test_bad_budgets() -> None:
    with pytest.raises(base.CompoundNetError, match="at least one bound"):
        arch.plan(B0)
    with pytest.raises(base.CompoundNetError, match="must be a number above 0, got -1"):
        arch.plan(B0, max_macs=-1)
    with pytest.raises(base.CompoundNetError, match="batch must be at least 1"):
        arch.plan(B0, max_macs=1e9, batch=0)


def test_every_catalogue_network_can_be_planned() -> None:
    for members in arch.families().values():
        for network in members.values():
            assert arch.plan(network, max_macs=1e9).macs <= 1e9
