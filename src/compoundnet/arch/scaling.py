"""Scaling a network in depth, width and resolution (Eq. 2). `scaling_rules` derives the three from one exponent.

Rounding follows the authors' code (efficientnet_model.py: round_filters, round_repeats).
"""

from __future__ import annotations

import math

import msgspec

from compoundnet.arch.spec import MIN_RESOLUTION, Network, Rules, Scaling
from compoundnet.base.errors import CompoundNetError

# A resolution up to this value is a factor, above it a number of pixels. Figure 3 ends at 2.5.
MAX_RESOLUTION_FACTOR = 8
# Of depth and width.
MAX_MULTIPLIER = 1e6


def scale(
    network: Network,
    *,
    depth: float = 1.0,
    width: float = 1.0,
    resolution: float = 1.0,
    name: str | None = None,
) -> Network:
    """Scale a network (Eq. 2): depth * L repeats and width * C channels, rounded by its family's rules; resolution.

    Args:
        network: The baseline.
        depth: Multiplier above 0; below 1 shrinks.
        width: Multiplier above 0; below 1 shrinks.
        resolution: Up to 8 a factor on the network's resolution, rounded to the nearest pixel; above that pixels, at
            least 32.
        name: Name of the result; by default the name of the base with the multipliers.

    Raises:
        CompoundNetError: a multiplier that is not a positive number, or a resolution under 32 px.
    """
    for label, value in (("depth", depth), ("width", width), ("resolution", resolution)):
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise CompoundNetError(f"{label} must be a number above 0, got {value}")
    if depth > MAX_MULTIPLIER or width > MAX_MULTIPLIER:
        raise CompoundNetError(f"depth {depth:g} and width {width:g} must be at most a million")
    pixels = _resolution(network.resolution, resolution)
    rules = network.rules
    stages = tuple(
        msgspec.structs.replace(stage, channels=round_channels(stage.channels, width, rules), repeats=repeats)
        for stage, repeats in zip(network.stages, scaled_repeats(network, depth), strict=True)
    )
    stem = round_channels(network.stem.channels, rules.stem_width(width), rules)
    head = round_channels(network.head.channels, rules.head_width(width), rules)
    factor = resolution if resolution <= MAX_RESOLUTION_FACTOR else pixels / network.resolution
    return network.replace(
        name=name or f"{network.name}-d{depth:.4g}-w{width:.4g}-r{pixels}",
        resolution=pixels,
        stem=msgspec.structs.replace(network.stem, channels=stem),
        stages=stages,
        head=msgspec.structs.replace(network.head, channels=head),
        scaling=Scaling(base=network.name, depth=depth, width=width, resolution=factor),
    )


def round_channels(channels: int, width: float, rules: Rules) -> int:
    """Return the nearest multiple of the divisor, at least one, and the next one if too many channels would be lost.

    Width 1 changes nothing, because the channels of a network need not be multiples.
    """
    if width == 1.0 or channels == 0:
        return channels
    divisor = rules.channel_divisor
    # Rounding errors of the product are removed first: 0.7 * 40 is 27.999999999999996 and would round down.
    wanted = round(channels * width, 9)
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < (1 - rules.max_channel_loss) * wanted else rounded


def round_repeats(repeats: int, depth: float, rules: Rules) -> int:
    """Return depth * repeats, rounded up or to the nearest whole number, at least 1.

    Rounding errors of the product are removed first: 1.1 * 10 is 11.000000000000002 and would give 12.
    """
    wanted = round(depth * repeats, 9)
    return max(1, math.ceil(wanted) if rules.depth_rounding == "up" else round(wanted))


def scaled_repeats(network: Network, depth: float) -> tuple[int, ...]:
    """Return the repeats of each stage of the network scaled by `depth`.

    The repeats of a group of joined stages are multiplied as a whole, and then shared out as they were before. With
    more depth, no stage has fewer repeats than with less.
    """
    rules, groups, found = network.rules, network.groups, []
    for group in groups:
        repeats = [network.stages[index].repeats for index in group]
        if rules.fix_end_repeats and group in (groups[0], groups[-1]):
            found += repeats
        else:
            found += _shared_out(round_repeats(sum(repeats), depth, rules), repeats)
    return tuple(found)


def _shared_out(total: int, repeats: list[int]) -> list[int]:
    """Share out `total` in proportion, at least one to each, by Webster's method.

    The next repeat goes to the stage with the largest share for each half of a repeat more than it has; of equal ones
    to the later, since the first block of a group differs from the others. A larger total takes none away.
    """
    count, whole = len(repeats), sum(repeats)
    # The method starts at one each. No stage ends further than this below its exact share, so it may start there.
    found = [max(1, share * total // whole - 2 * count) for share in repeats]
    for _ in range(total - sum(found)):
        found[max(range(count), key=lambda index: (repeats[index] / (found[index] + 0.5), index))] += 1
    return found


def _resolution(own: int, resolution: float) -> int:
    pixels = round(own * resolution) if resolution <= MAX_RESOLUTION_FACTOR else resolution
    if pixels != int(pixels):
        raise CompoundNetError(f"a resolution in pixels is a whole number, got {resolution}")
    if not MIN_RESOLUTION <= pixels <= 1e6:
        raise CompoundNetError(
            f"resolution must lie between {MIN_RESOLUTION} px and a million, got {int(pixels)} px"
            f" (a value up to {MAX_RESOLUTION_FACTOR} is a factor on the network's {own} px)"
        )
    return int(pixels)
