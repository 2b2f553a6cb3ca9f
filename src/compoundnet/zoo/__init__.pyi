from .catalogue import ZooNetwork, entries, network
from .create import create_model
from .lookup import NetworkSize, find_network, find_scalable, network_size

__all__ = [
    "NetworkSize",
    "ZooNetwork",
    "create_model",
    "entries",
    "find_network",
    "find_scalable",
    "network",
    "network_size",
]
