"""A page on this machine that plans networks and shows what a model sees in a photo."""

from compoundnet.serve.app import create_app
from compoundnet.serve.server import serve

__all__ = ["create_app", "serve"]
