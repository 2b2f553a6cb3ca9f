"""Which tensors a network's weights consist of, from its layers alone: what a weights file must hold. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compoundnet.arch import Network, unroll
from compoundnet.base import CompoundNetError

Shape = tuple[int, ...]

# Counts batches seen in training; torch uses it only where momentum is None, which no network of ours has.
COUNTER = ".num_batches_tracked"
_NAMED = 3  # tensors an error names; the rest it counts


def expected_tensors(network: Network) -> dict[str, Shape]:
    """Name and shape of every weight, bias and running statistic of the built network, in the order of its layers."""
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
    """`expected_tensors` and the counters that torch's `state_dict` has beside each norm's statistics."""
    shapes: dict[str, Shape] = {}
    for name, shape in expected_tensors(network).items():
        shapes[name] = shape
        if name.endswith(".running_var"):
            shapes[name.removesuffix(".running_var") + COUNTER] = ()
    return shapes


def check_tensors(network: Network, found: Mapping[str, Sequence[int]], source: str) -> None:
    """Raise a CompoundNetError that says which tensors of `source` are missing, extra or misshapen for a network."""
    check_shapes(found, state_shapes(network), f"{source}: these are not the weights of {network.name}")


def check_shapes(found: Mapping[str, Sequence[int]], expected: Mapping[str, Shape], problem: str) -> None:
    """Raise a CompoundNetError of `problem` and what is missing, extra or misshapen; counters of batches may lack."""
    missing = [name for name in expected if name not in found and not name.endswith(COUNTER)]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {_times(found[name])} instead of {_times(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != shape
    ]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in ((missing, "missing"), (extra, "extra"), (misshapen, "misshapen"))
        if names
    ]
    if problems:
        raise CompoundNetError(f"{problem}. Of its tensors {', '.join(problems)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
