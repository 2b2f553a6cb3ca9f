from .app import create_app
from .explanations import check_model
from .server import serve

__all__ = [
    "check_model",
    "create_app",
    "serve",
]
