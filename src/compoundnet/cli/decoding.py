"""How many processes decode pictures, where nobody says."""

from __future__ import annotations


def decoding_processes(pictures: int, worth: int) -> int:
    """For each process that runs the network: none for fewer pictures than are worth starting them for."""
    from compoundnet.base.machine import cores

    return 0 if pictures < worth else max(1, min(16, cores() - 1))
