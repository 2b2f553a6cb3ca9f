from .catalogue import ZooNetwork, entries, network

__all__ = [
    "ZooNetwork",
    "entries",
    "network",
]
