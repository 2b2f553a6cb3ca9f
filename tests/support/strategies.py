"""Random networks for property tests: small enough to build, as odd as the format allows."""

from __future__ import annotations

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
    st.builds(arch.SeparableConv, kernel=kernels, se=st.sampled_from([0.0, 0.25])),
    st.builds(arch.ConvBlock, kernel=kernels, se=st.sampled_from([0.0, 0.25])),
    st.builds(arch.BasicBlock, kernel=kernels),
    st.builds(
        arch.Bottleneck, kernel=kernels, ratio=st.sampled_from([0.25, 0.5, 1.0]), groups=st.sampled_from([1, 2, 4])
    ),
)

stages = st.builds(
    arch.Stage,
    block=blocks,
    channels=st.integers(1, 24),
    repeats=st.integers(1, 3),
    stride=st.integers(1, 3),
    skip=st.sampled_from([True, False, "pool"]),
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
    stages=st.lists(stages, min_size=1, max_size=4).map(tuple),
    head=st.builds(arch.Head, channels=st.integers(0, 24), pool=st.sampled_from(["avg", "max"])),
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
    ),
)
