"""Striking out what looks like a secret, before anything is written.

A value is struck out where its field is a `SecretStr` in the TaskDef's schema, or where its name says so: `password`,
`api_key`, `authToken`. Only texts are: a number such as `max_tokens` is none. The password in a URL is struck out
wherever it stands. What is struck out keeps its type, so that the params stay valid.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from perago.taskdef.problems import join_pointer

STRUCK_OUT = "***"
"""Stands where a secret was."""
SHORTEST = 8
"""Characters of a secret that is looked for elsewhere: shorter ones are found in places that have nothing to do
with it."""
_Schema: TypeAlias = Mapping[str, Any]
_WORDS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "credential", "credentials", "apikey"}
    | {"authorization", "auth"}
)
_PAIRS = frozenset({("api", "key"), ("private", "key"), ("access", "key"), ("secret", "key"), ("account", "key")})
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s]+)@")
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
    return _strike(value, _alternatives(schema), pointer, found, secret=False), found


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
        (
            place
            for place, secret in secrets.items()
            if len(secret) >= SHORTEST and any(spelling in content for spelling in _spellings(secret))
        ),
        None,
    )


def _spellings(secret: str) -> set[bytes]:
    """The secret as files have it: as it is, and as a text in JSON, where a key of several lines has none."""
    texts = (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    return {text.encode("utf-8", "surrogatepass") for text in texts}


def _long(secrets: Mapping[str, str]) -> Iterator[str]:
    return (secret for secret in secrets.values() if len(secret) >= SHORTEST)


def _strike(value: Any, schemas: Sequence[_Schema], pointer: str, found: dict[str, str], *, secret: bool) -> Any:
    secret = secret or any(schema.get("format") == "password" for schema in schemas)
    if isinstance(value, Mapping):
        struck = {}
        for key, item in value.items():
            place, hidden = join_pointer(pointer, key), secret or looks_secret(key)
            struck[key] = _strike(item, _of_property(schemas, key), place, found, secret=hidden)
        return struck
    if isinstance(value, list):
        return [
            _strike(item, _of_item(schemas, index), join_pointer(pointer, index), found, secret=secret)
            for index, item in enumerate(value)
        ]
    if secret and isinstance(value, str) and value not in ("", STRUCK_OUT):
        found[pointer] = value
        return STRUCK_OUT
    return _without_url_passwords(value, pointer, found) if isinstance(value, str) else value


def _without_url_passwords(text: str, pointer: str, found: dict[str, str]) -> str:
    """`postgres://user:***@host/db`."""
    passwords = [password for password in _URL_PASSWORD.findall(text) if password != STRUCK_OUT]
    for number, password in enumerate(passwords):
        found[f"{pointer} ({number + 1})" if number else pointer] = password
    return _URL_PASSWORD.sub(lambda match: match[0].replace(f":{match[1]}@", f":{STRUCK_OUT}@"), text)


def _alternatives(schema: Any) -> list[_Schema]:
    """The schema, and those that it is made of: a field that may be None has its type below `anyOf`."""
    if not isinstance(schema, Mapping):
        return []
    parts = [schema[key] for key in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(key), list)]
    return [schema, *(one for items in parts for item in items for one in _alternatives(item))]


def _of_property(schemas: Sequence[_Schema], key: str) -> list[_Schema]:
    """What any of the schemas says of a field, or of the fields that it does not name."""
    found: list[_Schema] = []
    for schema in schemas:
        properties, patterns = schema.get("properties"), schema.get("patternProperties")
        if isinstance(properties, Mapping) and key in properties:
            found += _alternatives(properties[key])
            continue
        others = patterns.values() if isinstance(patterns, Mapping) else ()
        for other in (*others, schema.get("additionalProperties")):
            found += _alternatives(other)
    return found


def _of_item(schemas: Sequence[_Schema], index: int) -> list[_Schema]:
    """What any of the schemas says of an item: a tuple has one for each place."""
    found: list[_Schema] = []
    for schema in schemas:
        first = schema.get("prefixItems")
        if isinstance(first, list) and index < len(first):
            found += _alternatives(first[index])
        else:
            found += _alternatives(schema.get("items"))
    return found
