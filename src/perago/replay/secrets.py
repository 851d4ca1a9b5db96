"""Striking out what looks like a secret, before anything is written.

A value is struck out where its field is a `SecretStr` in the TaskDef's schema, or where its name says so: `password`,
`api_key`, `authToken`. Only texts are: a number such as `max_tokens` is none. What is struck out keeps its type, so
that the params stay valid.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from perago.taskdef.problems import join_pointer

STRUCK_OUT = "***"
"""Stands where a secret was."""
SHORTEST = 8
"""Characters of a secret that is looked for elsewhere: shorter ones are found in places that have nothing to do
with it."""
_WORDS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "credential", "credentials", "apikey"}
    | {"authorization", "auth"}
)
_PAIRS = frozenset({("api", "key"), ("private", "key"), ("access", "key"), ("secret", "key"), ("account", "key")})
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def looks_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `dbPassword`, `api-key`; not `tokenizer`."""
    words = [word.lower() for word in _PARTS.findall(name)]
    return any(word in _WORDS for word in words) or any(pair in _PAIRS for pair in itertools.pairwise(words))


def strike_out(value: Any, schema: Any = None, pointer: str = "") -> tuple[Any, dict[str, str]]:
    """The JSON value without secrets, and what was struck out by its pointer.

    Args:
        value: params, or a result.
        schema: its JSON Schema, if there is one: `"format": "password"` marks a secret.
        pointer: where the value is.
    """
    found: dict[str, str] = {}
    return _strike(value, schema, pointer, found, secret=False), found


def replace_known(value: Any, secrets: Mapping[str, str]) -> Any:
    """The JSON value with each secret that stands in one of its texts struck out there, too."""
    if isinstance(value, str):
        for secret in _long(secrets):
            value = value.replace(secret, STRUCK_OUT)
        return value
    if isinstance(value, Mapping):
        return {key: replace_known(item, secrets) for key, item in value.items()}
    return [replace_known(item, secrets) for item in value] if isinstance(value, list) else value


def schema_of(definition: Mapping[str, Any] | None, key: str) -> Any:
    """The JSON Schema of `params` or `result` in a TaskDef; None if it has none."""
    for name in ("inputSchema", "outputSchema"):
        found: Any = definition
        for part in (name, "data", "properties", key):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


def known_in(content: bytes, secrets: Mapping[str, str]) -> str | None:
    """The pointer of a secret that these bytes hold; None if there is none."""
    return next(
        (place for place, secret in secrets.items() if len(secret) >= SHORTEST and secret.encode() in content), None
    )


def _long(secrets: Mapping[str, str]) -> Iterator[str]:
    return (secret for secret in secrets.values() if len(secret) >= SHORTEST)


def _strike(value: Any, schema: Any, pointer: str, found: dict[str, str], *, secret: bool) -> Any:
    secret = secret or _is_password(schema)
    if isinstance(value, Mapping):
        struck = {}
        for key, item in value.items():
            place, hidden = join_pointer(pointer, key), secret or looks_secret(key)
            struck[key] = _strike(item, _property(schema, key), place, found, secret=hidden)
        return struck
    if isinstance(value, list):
        items = schema.get("items") if isinstance(schema, Mapping) else None
        return [
            _strike(item, items, join_pointer(pointer, index), found, secret=secret) for index, item in enumerate(value)
        ]
    if secret and isinstance(value, str) and value not in ("", STRUCK_OUT):
        found[pointer] = value
        return STRUCK_OUT
    return value


def _is_password(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    lists = [schema[key] for key in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(key), list)]
    return schema.get("format") == "password" or any(_is_password(item) for items in lists for item in items)


def _property(schema: Any, key: str) -> Any:
    if not isinstance(schema, Mapping):
        return None
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and key in properties:
        return properties[key]
    return schema.get("additionalProperties")
