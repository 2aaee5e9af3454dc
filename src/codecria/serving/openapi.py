"""The OpenAPI document, made of the routes and of the forms they read."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from codecria.serving.problems import STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.serving.routes import Dialect, Route
    from codecria.serving.settings import Settings

_REF = "#/components/schemas/{model}"


def describe(dialects: Sequence[Dialect], settings: Settings) -> dict[str, Any]:
    """The document as JSON can hold it. An address that two dialects have takes either's body."""
    forms = list({route.body for dialect in dialects for route in dialect.routes if route.body is not None})
    forms.sort(key=lambda form: form.__name__)
    refs, definitions = models_json_schema([(form, "validation") for form in forms], ref_template=_REF)
    paths: dict[str, Any] = {}
    for dialect in dialects:
        for route in dialect.routes:
            body = None if route.body is None else refs[route.body, "validation"]
            path = paths.setdefault(re.sub(r":\w+}", "}", route.path), {})
            operation = path.get(route.method.lower())
            if operation is None:
                path[route.method.lower()] = _operation(dialect, route, body, settings)
            else:
                _widen(operation, dialect, route, body)
    schemes = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "codecria", "version": version("codecria")},
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {}), "securitySchemes": schemes},
    }


def _operation(dialect: Dialect, route: Route, body: Any, settings: Settings) -> dict[str, Any]:
    names = re.findall(r"{(\w+)", route.path)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [dialect.name],
        "responses": {
            "200": {"description": "The answer"},
            **{str(status): {"description": "An error"} for status in STATUSES},
        },
    }
    if names:
        text = {"type": "string"}
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if settings.api_key is not None and not route.public:
        operation["security"] = [{"key": []}]
    return operation


def _widen(operation: dict[str, Any], dialect: Dialect, route: Route, body: Any) -> None:
    operation["tags"].append(dialect.name)
    operation["summary"] += f"; {route.summary}"
    if body is None:
        return
    if "requestBody" not in operation:
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": body}}}
        return
    content = operation["requestBody"]["content"]["application/json"]
    either: list[Any] = content["schema"].get("anyOf", [content["schema"]])
    content["schema"] = {"anyOf": [*either, body]}
