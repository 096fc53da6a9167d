"""The OpenAPI document: what FastAPI finds out by itself, completed with examples and the token."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from millrace.server.examples import with_nulls
from millrace.server.submission import SCHEMA
from millrace.workloads import Plugin


def describe(app: FastAPI, plugins: Iterable[Plugin], *, needs_token: bool) -> None:
    """Let ``app.openapi()`` return the complete document. It is made when it is first asked for."""
    files = [plugin.examples for plugin in plugins if plugin.examples is not None]

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app, files, needs_token=needs_token)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, files: Iterable[Path], *, needs_token: bool) -> dict[str, Any]:
    with warnings.catch_warnings():
        # GET and HEAD of one path may be one function; only GET is described.
        warnings.filterwarnings("ignore", message="Duplicate Operation ID")
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["NewJob"] = SCHEMA
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    if needs_token:
        schema["security"] = [{"bearer": []}]
    paths: dict[str, dict[str, Any]] = with_nulls(schema["paths"])
    schema["paths"] = paths
    for operations in paths.values():
        operations.pop("head", None)
        for operation in operations.values():
            # What is invalid is answered with 400, in each contract's own shape.
            operation.get("responses", {}).pop("422", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for file in files:
        add_examples(paths, yaml.safe_load(file.read_text(encoding="utf-8")))
    return schema


def add_examples(paths: Mapping[str, dict[str, Any]], examples: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a workload's examples where they belong.

    ``examples`` maps ``METHOD /path`` to ``answer``, and where needed ``status`` (200), ``type`` of the
    answer (``application/json``), ``request`` and ``request_type``. What names no endpoint is left out.
    """
    for name, example in examples.items():
        method, _, path = name.partition(" ")
        operation = paths.get(path, {}).get(method.lower())
        if operation is None:
            continue
        status = str(example.get("status", 200))
        answer = operation.setdefault("responses", {}).setdefault(status, {"description": "Answer"})
        media_type = example.get("type", "application/json")
        answer.setdefault("content", {}).setdefault(media_type, {})["example"] = example["answer"]
        if "request" in example:
            body = operation.setdefault("requestBody", {}).setdefault("content", {})
            kind = example.get("request_type", "application/json")
            body.setdefault(kind, {})["example"] = example["request"]
