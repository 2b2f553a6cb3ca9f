from .catalogue import ZooNetwork, entries, network
from .sizes import NetworkSize, network_size, size_of

__all__ = [
    "NetworkSize",
    "ZooNetwork",
    "entries",
    "network",
    "network_size",
    "size_of",
]
