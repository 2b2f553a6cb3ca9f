"""The OpenAPI document of the service: written by hand, with the schemas of the structs that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from compoundnet import __version__
from compoundnet.serve.service.bodies import JsonImages
from compoundnet.serve.service.served_models import ModelAnswer
from compoundnet.serve.service.settings import ServiceSettings

_REF = "#/components/schemas/{name}"
_ERRORS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "A web page asked for this.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or images.",
    415: "The body is of another kind.",
    421: "The header Host names another address than the service's.",
    429: "Too many images wait; try again after the seconds of Retry-After.",
    500: "A fault of the service.",
    503: "The service starts, stops, has too many connections, or did not answer in time.",
}
_OF_PREDICT = (400, 404, 408, 413, 415, 429, 500, 503)


def openapi(names: Sequence[str], settings: ServiceSettings, answer: type, *, secured: bool) -> dict[str, Any]:
    """Return the document, OpenAPI 3.1.

    Args:
        names: The models; the first is the default.
        settings: The limits, which the descriptions state.
        answer: The struct of an answer to `predict`.
        secured: Whether requests need the token.
    """
    (request, answered, model), schemas = msgspec.json.schema_components(
        (JsonImages, answer, ModelAnswer), ref_template=_REF
    )
    schemas["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    limits = (
        f"At most {settings.max_images:,} images, {settings.max_bytes:,} bytes in all, {settings.max_pixels:,} pixels"
        f" an image, and {settings.timeout:g} s."
    )
    binary = {"type": "string", "format": "binary"}
    refused = (401,) if secured else (403, 421)  # see `guard`
    predict = {
        "operationId": "predict",
        "summary": "Predict the most probable classes of images.",
        "description": f"One image as it is, several as a form of files, or base64 in JSON. {limits}",
        "parameters": [
            _parameter("model", "query", {"type": "string", "enum": list(names), "default": names[0]}, "The model."),
            _parameter("top", "query", {"type": "integer", "minimum": 1}, "Number of classes; 5 by default."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": binary},
                "application/octet-stream": {"schema": binary},
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"image": {"type": "array", "items": binary}}}
                },
                "application/json": {"schema": request},
            },
        },
        "responses": {
            "200": _json("The classes of each image, or why it cannot be read.", answered),
            "422": _json("No image can be read; the answer says why.", answered),
            **_errors(*refused, *_OF_PREDICT),
        },
    }
    listed = {"type": "object", "properties": {"models": {"type": "array", "items": model}}, "required": ["models"]}
    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    paths: dict[str, Any] = {
        "/v1/predict": {"post": predict},
        "/v1/models": {"get": _get("models", "List the models.", {"200": _json("The models.", listed)}, *refused)},
        "/v1/models/{name}": {
            "get": {
                **_get("model", "Describe a model, with its labels.", {"200": _json("It.", model)}, *refused, 404),
                "parameters": [_parameter("name", "path", {"type": "string"}, "The model.", required=True)],
            }
        },
        "/openapi.json": {
            "get": _get("openapi", "This document.", {"200": _json("It.", {"type": "object"})}, *refused)
        },
        "/metrics": {
            "get": _get(
                "metrics",
                "The measurements, for Prometheus.",
                {"200": {"description": "They.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
                *refused,
            )
        },
    }
    for path, about, ok in (
        ("healthz", "Whether the process lives.", "It does."),
        ("readyz", "Whether the service takes requests.", "It does."),
    ):
        answers = {"200": _json(ok, status)} | ({"503": _json("Not now.", status)} if path == "readyz" else {})
        codes = () if secured else refused
        paths[f"/{path}"] = {"get": {**_get(path, about, answers, *codes), "security": []}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "compoundnet", "version": __version__, "description": "Classifies images."},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _get(name: str, about: str, answers: dict[str, Any], *errors: int) -> dict[str, Any]:
    return {"operationId": name, "summary": about, "responses": answers | _errors(*errors)}


def _errors(*codes: int) -> dict[str, Any]:
    found = {str(code): _json(_ERRORS[code], {"$ref": _REF.format(name="Error")}) for code in codes}
    if "429" in found:
        found["429"]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


def _json(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, place: str, schema: dict[str, Any], about: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema, "description": about}
