"""plan: the largest network that fits, exactly; which bound binds; what cannot fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compoundnet import arch, base
from compoundnet.arch.budget import smallest

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
    found = arch.plan(B0, max_macs=limit, rule="compound")
    assert found.macs <= limit
    assert arch.compound(B0, found.phi) == found.network
    for step in (1e-3, 0.01, 0.1, 0.5):
        assert arch.cost(arch.compound(B0, found.phi + step)).macs > limit or found.network == arch.compound(
            B0, found.phi + step
        ).replace(name=found.network.name, scaling=found.network.scaling)


@pytest.mark.parametrize(("limit", "side"), [(300e6, 242), (400e6, 282), (700e6, 378)])
def test_memory_that_does_not_grow_with_the_resolution_is_searched_to_the_largest_that_fits(
    limit: float, side: int
) -> None:
    """B0 at batch 32 needs 416 MB at 224 px, where padding copies a map, and 399 MB at 282 px, where it does not."""
    found = arch.plan(B0, max_memory=limit, batch=32)
    alone = found.alternatives["resolution"]
    assert alone is not None and alone.resolution == side and alone.memory_bytes <= limit
    larger = (arch.scale(B0, resolution=pixels) for pixels in range(side + 1, 2 * side))
    assert all(arch.inference_memory(one, batch=32) > limit for one in larger)
    assert found.rule == "compound" and found.phi > 0 and found.binding == "memory"


def test_the_rule_of_small_networks_stands_in_only_where_no_larger_network_fits() -> None:
    limit = 400e6
    assert arch.inference_memory(B0, batch=32) > limit
    found = arch.plan(B0, max_memory=limit, batch=32)
    assert found.rule == "compound" and found.resolution > 224
    assert arch.plan(B0, max_memory=200e6, batch=32).rule == "tiny"


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(["efficientnet-b0", "efficientnet-lite0", "resnet-18"]),
    st.sampled_from([arch.find_rule("compound"), arch.find_rule("fast"), arch.fast_scaling(1)]),
    st.sampled_from(["memory", "training memory", "sram"]),
    st.floats(-2, 2),
)
def test_no_larger_phi_fits_into_the_memory(name: str, rule: arch.ScalingRule, figure: str, doublings: float) -> None:
    network = arch.network(name)

    def used(phi: float) -> int:
        value = arch.cost(arch.scale_by(network, rule, phi), batch=8)
        known = {"memory": value.memory_bytes, "training memory": value.training_memory_bytes}
        return (known | {"sram": value.sram_bytes})[figure]

    limit = used(0) * 2**doublings
    try:
        found = arch.plan(
            network, max_memory=None if figure == "sram" else limit, max_sram=limit if figure == "sram" else None,
            batch=8, training=figure == "training memory", rule=rule,
        )  # fmt: skip
    except base.CompoundNetError as error:
        assert "no network of" in str(error)  # the weights alone exceed the bound
        start = rule.phi_range(network)[0]
    else:
        assert used(found.phi) <= limit and found.binding == figure
        start = found.phi + 2e-4
    assert all(used(start + 0.03 * step) > limit for step in range(60))


def test_a_budget_of_exactly_the_baseline_is_the_baseline() -> None:
    found = arch.plan(B0, max_macs=arch.cost(B0).macs)
    assert (found.rule, found.phi, found.resolution) == ("compound", 0, 224)


@pytest.mark.parametrize(
    "rule", [arch.fast_scaling(1), arch.Coefficients(1.5, 1.05, 1.1), arch.Coefficients(1, 1.5, 1.05)]
)
def test_coefficients_that_reach_a_million_times_the_depth_or_width_are_planned(
    rule: arch.ScalingRule | arch.Coefficients,
) -> None:
    found = arch.plan(B0, max_macs=1e9, rule=rule)
    assert 0.8e9 < found.macs <= 1e9


def test_each_row_has_its_network_which_json_leaves_out() -> None:
    found = arch.plan(B0, max_macs=3e8)
    rows: list[arch.LargestNetwork] = [found, *filter(None, found.alternatives.values())]
    assert {row.network.rules.depth_rounding for row in rows} == {"nearest", "up"}
    for row in rows:
        assert (arch.cost(row.network).macs, row.network.resolution) == (row.macs, row.resolution)
    told = found.facts()
    assert "network" not in told and all("network" not in (row or {}) for row in told["alternatives"].values())


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


def test_a_budget_below_the_baseline_is_met_by_the_rule_of_small_networks() -> None:
    """TinyNet-E: depth 0.6, width 0.51, 106 px at 24M; compound scaling shrinks all three alike."""
    found = arch.plan(B0, max_macs=24e6)
    assert found.rule == "tiny" and found.macs <= 24e6
    assert found.depth == pytest.approx(0.6, rel=0.1) and found.width == pytest.approx(0.51, rel=0.1)
    assert found.resolution == pytest.approx(106, rel=0.15)
    paper = arch.plan(B0, max_macs=24e6, rule="compound")
    assert paper.rule == "compound" and paper.resolution < 100 and found.alternatives["compound"] is not None
    assert found.alternatives["compound"].macs == paper.macs
    # 500k parameters took 34 px by compound scaling.
    assert arch.plan(B0, max_params=500e3).resolution > 80
    assert arch.plan(B0, max_macs=390e6).rule == "compound"


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.floats(1e6, 3.8e8))
def test_the_rule_of_small_networks_finds_the_largest(limit: float) -> None:
    found = arch.plan(B0, max_macs=limit)
    assert found.rule == "tiny" and found.macs <= limit
    assert arch.scale_by(B0, "tiny", found.phi) == found.network
    for step in (0.01, 0.1, 0.5, 1.0):
        if found.phi + step <= 0:
            larger = arch.scale_by(B0, "tiny", found.phi + step)
            same = larger.stages == found.network.stages and larger.resolution == found.resolution
            assert same or arch.cost(larger).macs > limit


def test_every_rule_answers_the_same_budget() -> None:
    found = arch.plan(B0, max_macs=4.4e9)
    fast = found.alternatives["fast"]
    assert fast is not None and fast.macs <= 4.4e9 and "tiny" not in found.alternatives
    # Dollar et al.: at equal multiply-adds fast scaling has fewer activations, and more parameters.
    assert (round(found.activations / 1e6, 1), round(fast.activations / 1e6, 1)) == (48.7, 29.7)
    assert (round(found.params / 1e6, 1), round(fast.params / 1e6, 1)) == (19.5, 46.1)
    again = arch.plan(B0, max_macs=4.4e9, rule="fast")
    assert (again.rule, again.params, again.activations) == ("fast", fast.params, fast.activations)


def test_activations_and_the_memory_of_a_microcontroller_can_bind() -> None:
    found = arch.plan(B0, max_macs=4e9, max_activations=30e6)
    assert found.binding == "activations" and found.activations <= 30e6
    lite = arch.network("efficientnet-lite0").replace(num_classes=10)
    small = arch.plan(lite, max_sram=320e3, max_flash=1e6)
    assert small.sram_bytes <= 320e3 and small.flash_bytes <= 1e6 and small.binding in ("sram", "flash")


def test_a_rule_that_cannot_reach_a_budget_says_so() -> None:
    with pytest.raises(base.CompoundNetError, match="tiny only makes networks smaller, and efficientnet-b0 is within"):
        arch.plan(B0, max_macs=1e9, rule="tiny")
    with pytest.raises(base.CompoundNetError, match=r"by the rule fast: macs of at most 10,000 was asked.*px\) needs"):
        arch.plan(B0, max_macs=1e4, rule="fast")


def test_alternatives_keep_the_budget_in_one_dimension() -> None:
    found = arch.plan(B0, max_macs=1.8e9)
    for dimension in arch.DIMENSIONS:
        row = found.alternatives[dimension]
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


@pytest.mark.slow
def test_every_catalogue_network_can_be_planned() -> None:
    for members in arch.families().values():
        for network in members.values():
            assert arch.plan(network, max_macs=1e9).macs <= 1e9


@pytest.mark.parametrize("macs", [3.9e8, 1e9, 1.234e9, 2e11])
def test_phi_has_four_decimals_and_the_next_one_is_too_large(macs: float) -> None:
    network = arch.network("efficientnet-b0")
    found = arch.plan(network, max_macs=macs)
    assert found.phi == round(found.phi, 4)
    assert arch.cost(arch.compound(network, found.phi)).macs == found.macs <= macs
    assert arch.cost(arch.compound(network, round(found.phi + 2e-4, 4))).macs > macs
    for one in found.alternatives.values():
        assert one is None or ((0.5 * macs < one.macs or macs < 1e9) and one.macs <= macs)


def test_alternatives_change_one_dimension() -> None:
    found = arch.plan(arch.network("efficientnet-b0"), max_macs=2e9).alternatives
    depth, width, resolution = (found[name] for name in ("depth", "width", "resolution"))
    assert depth is not None and width is not None and resolution is not None
    assert depth.depth > 1 and (depth.width, depth.resolution) == (1, 224)
    assert width.width > 1 and (width.depth, width.resolution) == (1, 224)
    assert resolution.resolution > 224 and (resolution.depth, resolution.width) == (1, 1)


def test_a_budget_of_training_memory_reports_that_memory() -> None:
    network = arch.network("efficientnet-b0")
    for training in (False, True):
        found = arch.plan(network, max_memory=4e9, batch=8, training=training)
        cost = arch.cost(found.network, batch=8)
        assert found.memory_bytes == (cost.training_memory_bytes if training else cost.memory_bytes)
        assert found.binding == ("training memory" if training else "memory")


def test_a_budget_is_of_one_image_unless_told_otherwise() -> None:
    found = arch.plan(B0, max_macs=1e9)
    assert found.memory_bytes == arch.cost(found.network, batch=1).memory_bytes


def test_the_resolution_alone_is_the_largest_that_fits() -> None:
    row = arch.plan(B0, max_macs=1e9).alternatives["resolution"]
    assert row is not None
    assert arch.cost(arch.scale(B0, resolution=row.resolution)).macs == row.macs <= 1e9
    assert arch.cost(arch.scale(B0, resolution=row.resolution + 1)).macs > 1e9


def test_the_smallest_resolution_is_tried_too() -> None:
    least = arch.cost(arch.scale(B0, resolution=32)).macs
    row = arch.plan(B0, max_macs=least).alternatives["resolution"]
    assert row is not None and row.resolution == 32
    assert arch.plan(B0, max_macs=least - 1).alternatives["resolution"] is None


def test_a_predicted_latency_can_bind() -> None:
    model = arch.LatencyModel(macs=1e-8, layers=0.01)
    found = arch.plan(B0, max_latency=5.0, max_macs=3e9, latency=model)
    assert found.binding == "latency in ms" and 4.5 < model.milliseconds(found.network) <= 5.0
    for options in ({"max_latency": 5.0}, {"latency": model}):
        with pytest.raises(base.CompoundNetError, match="max_latency goes with latency"):
            arch.plan(B0, max_macs=3e9, **options)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_bound_is_above_0(limit: float) -> None:
    with pytest.raises(base.CompoundNetError, match=f"the bound on macs must be a number above 0, got {limit}"):
        arch.plan(B0, max_macs=limit)
    model = arch.LatencyModel(macs=1e-9)
    assert arch.plan(B0, max_latency=0.5, latency=model).binding == "latency in ms"  # less than 1 is above 0


def test_one_dimension_alone_can_shrink() -> None:
    found = arch.plan(B0, max_macs=2.5e8).alternatives
    width, depth = found["width"], found["depth"]
    assert width is not None and depth is not None and width.width < 1 and depth.depth < 1


def test_the_smallest_network_is_that_of_the_rule_for_small_ones() -> None:
    assert smallest(B0) == smallest(B0, "tiny") != smallest(B0, "compound")


@pytest.mark.parametrize(
    ("limit", "written"),
    [(5, "5"), (2.5, "2.5"), (999.5, "1,000"), (1000.4, "1,000"), (12_345.6, "12,346")],
)
def test_a_bound_is_written_in_full_or_with_three_digits(limit: float, written: str) -> None:
    with pytest.raises(base.CompoundNetError, match=f"params of at most {written} was asked"):
        arch.plan(B0, max_params=limit)
