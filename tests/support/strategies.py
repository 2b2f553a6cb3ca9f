"""Random networks for property tests: small enough to build, as odd as the format allows."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from compoundnet import arch

kernels = st.sampled_from([1, 3, 5, 7])

blocks: st.SearchStrategy[arch.Block] = st.one_of(
    st.builds(arch.MBConv, kernel=kernels, expansion=st.integers(1, 6), se=st.sampled_from([0.0, 0.1, 0.25, 1.0])),
    st.builds(
        arch.FusedMBConv,
        kernel=kernels,
        expansion=st.integers(1, 4),
        expands=st.sampled_from(["input", "output"]),
        se=st.sampled_from([0.0, 0.25]),
    ),
    st.builds(
        arch.UIB, start=st.sampled_from([0, 3, 5]), middle=st.sampled_from([0, 3, 7]), expansion=st.integers(1, 4)
    ),
    st.builds(arch.SeparableConv, kernel=kernels, se=st.sampled_from([0.0, 0.25])),
    st.builds(arch.ConvBlock, kernel=kernels, se=st.sampled_from([0.0, 0.25])),
    st.builds(arch.BasicBlock, kernel=kernels),
    st.builds(
        arch.Bottleneck, kernel=kernels, ratio=st.sampled_from([0.25, 0.5, 1.0]), groups=st.sampled_from([1, 2, 4])
    ),
)


@st.composite
def stages(draw: st.DrawFn) -> arch.Stage:
    block = draw(blocks)
    free = not isinstance(block, arch.UIB) or block.start > 0 or block.middle > 0  # an FFN has no stride
    return arch.Stage(
        block,
        channels=draw(st.integers(1, 24)),
        repeats=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 3)) if free else 1,
        skip=draw(st.sampled_from([True, False, "pool"])),
    )


@st.composite
def stage_lists(draw: st.DrawFn) -> tuple[arch.Stage, ...]:
    """Stages of which some without stride are joined to the one before."""
    found = draw(st.lists(stages(), min_size=1, max_size=4))
    return tuple(
        msgspec.structs.replace(one, joined=position > 0 and one.stride == 1 and draw(st.booleans()))
        for position, one in enumerate(found)
    )


networks: st.SearchStrategy[arch.Network] = st.builds(
    arch.Network,
    name=st.just("random"),
    resolution=st.integers(32, 48),
    stem=st.builds(
        arch.Stem,
        channels=st.integers(1, 16),
        kernel=kernels,
        stride=st.integers(1, 2),
        pool=st.sampled_from(["none", "max"]),
    ),
    stages=stage_lists(),
    head=st.builds(
        arch.Head, channels=st.integers(0, 24), pool=st.sampled_from(["avg", "max"]), hidden=st.sampled_from([0, 8, 20])
    ),
    activation=st.sampled_from(["silu", "relu", "relu6"]),
    norm=st.builds(arch.Norm, eps=st.sampled_from([1e-3, 1e-5]), momentum=st.sampled_from([0.01, 0.1])),
    padding=st.sampled_from(["same", "symmetric"]),
    dropout=st.sampled_from([0.0, 0.2]),
    survival=st.sampled_from([1.0, 0.8]),
    in_channels=st.integers(1, 4),
    num_classes=st.integers(0, 12),
    rules=st.builds(
        arch.Rules,
        channel_divisor=st.sampled_from([1, 4, 8]),
        max_channel_loss=st.sampled_from([0.0, 0.1, 1.0]),
        depth_rounding=st.sampled_from(["up", "nearest"]),
        fix_stem=st.booleans(),
        fix_head=st.booleans(),
        fix_end_repeats=st.booleans(),
        stem_grows_only=st.booleans(),
        head_grows_only=st.booleans(),
    ),
)
