from .app import create_app
from .explanations import check_model
from .server import serve
from .service.served_models import ServedModels
from .service.service import serve_api
from .service.settings import ServiceSettings
from .service.token import Token, read_token

__all__ = [
    "ServedModels",
    "ServiceSettings",
    "Token",
    "check_model",
    "create_app",
    "read_token",
    "serve",
    "serve_api",
]
