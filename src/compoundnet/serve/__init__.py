"""A page on this machine that plans networks and shows what a model sees in a photo."""

from compoundnet.serve.app import create_app
from compoundnet.serve.classifying import check_model
from compoundnet.serve.server import serve

__all__ = ["check_model", "create_app", "serve"]
