"""The tensors that a weights file of a network must hold, computed from its layers without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compoundnet.arch import Network, unroll
from compoundnet.base import CompoundNetError, shortened

Shape = tuple[int, ...]

# Counts training batches; torch uses it only if momentum is None, which is so in none of our networks.
COUNTER = ".num_batches_tracked"
_NAMED = 3  # how many tensors an error names; the rest are counted


def expected_tensors(network: Network) -> dict[str, Shape]:
    """Return name and shape of every weight, bias and running statistic of the built network, in the order of its
    layers."""
    found: dict[str, Shape] = {}
    for layer in unroll(network):
        if layer.kind == "conv":
            kernel = (layer.kernel, layer.kernel)
            found[f"{layer.name}.weight"] = (layer.out_channels, layer.in_channels // layer.groups, *kernel)
        elif layer.kind == "linear":
            found[f"{layer.name}.weight"] = (layer.out_channels, layer.in_channels)
        elif layer.kind == "norm":
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                found[f"{layer.name}.{leaf}"] = (layer.out_channels,)
        if layer.bias:
            found[f"{layer.name}.bias"] = (layer.out_channels,)
    return found


def state_shapes(network: Network) -> dict[str, Shape]:
    """Return `expected_tensors` and the counters that torch's `state_dict` has for each norm."""
    shapes: dict[str, Shape] = {}
    for name, shape in expected_tensors(network).items():
        shapes[name] = shape
        if name.endswith(".running_var"):
            shapes[name.removesuffix(".running_var") + COUNTER] = ()
    return shapes


def check_tensors(network: Network, found: Mapping[str, Sequence[int]], source: str) -> None:
    """Raise a CompoundNetError that lists missing, extra and misshapen tensors of `source` for a network."""
    check_shapes(found, state_shapes(network), f"{source}: these are not the weights of {network.name}")


def check_shapes(found: Mapping[str, Sequence[int]], expected: Mapping[str, Shape], problem: str) -> None:
    """Raise a CompoundNetError with `problem` and missing, extra or misshapen tensors; batch counters are optional."""
    missing = [name for name in expected if name not in found and not name.endswith(COUNTER)]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {_times(found[name])} instead of {_times(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != shape
    ]
    problems = [
        f"{len(names)} {what} ({shortened(names, _NAMED)})"
        for names, what in ((missing, "missing"), (extra, "extra"), (misshapen, "misshapen"))
        if names
    ]
    if problems:
        raise CompoundNetError(f"{problem}. Of its tensors {', '.join(problems)}")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
