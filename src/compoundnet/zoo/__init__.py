"""The paper's comparison networks that are not made of stages: cells, dense blocks, Inceptions."""

from compoundnet.zoo.catalogue import ZooNetwork, entries, network

__all__ = ["ZooNetwork", "entries", "network"]
