"""Redact probable secrets, before anything is written.

A value is redacted if its field is a `SecretStr` in the TaskDef's schema, or if the name of its field is one of
`perago.secret_names`. A number is redacted only if it is a password: `max_tokens` is not. JSON in a text is redacted
like other JSON. `perago.settings.mask` finds secrets in every other text, also in keys of maps. A redacted value keeps
its type, so that the params stay valid.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from perago.secret_names import is_password, looks_secret
from perago.settings.mask import REDACTED, Mask, may_be_token, redact_text
from perago.taskdef.schema import join_pointer

SHORTEST = 8
"""Minimum length of a secret that is searched elsewhere as a part of words, because shorter texts occur in them."""
_SHORTEST_WORD = 4
"""Minimum length of a secret that is searched elsewhere as a whole word."""
_SHORTEST_SCANNED = 16
"""Minimum length of a text that can have a token."""
_LONG_KEY = 20
"""Minimum length from which a key in a map of secrets counts as a secret, even without a digit."""
_LONGEST_NAME = 100
"""Maximum length of a list item that can be an option or a name in front of a value."""
_NAMED = ("properties", "patternProperties", "$defs")
_Schema: TypeAlias = Mapping[str, Any]


@functools.cache
def token_scanner() -> Callable[[bytes], Sequence[Any]] | None:
    """Return the scanner of the extra `secrets`, which knows the forms of more tokens; None without the extra."""
    try:
        from kingfisher_sdk import Rules, Scanner
    except ImportError:
        return None
    return Scanner(Rules(), base64=False).scan


def _redact_text(text: str) -> tuple[str, list[str]]:
    """Return `text` without the secrets that perago or the scanner knows, and these secrets."""
    text, secrets = redact_text(text)
    scan = token_scanner()
    if scan is None or len(text) < _SHORTEST_SCANNED:
        return text, secrets
    for finding in scan(text.encode("utf-8", "replace")):
        if finding.visible and len(finding.secret) >= SHORTEST and REDACTED not in finding.secret:
            if finding.secret in text:
                secrets.append(finding.secret)
            text = text.replace(finding.secret, REDACTED)
    return text, secrets


def redact(value: Any, schema: Any = None, pointer: str = "") -> tuple[Any, dict[str, str]]:
    """Return the JSON value without secrets, and the redacted values by their pointers.

    Args:
        value: params, or a result.
        schema: its JSON Schema, if there is one; `"format": "password"` marks a secret.
        pointer: the place of the value.
    """
    redactions: dict[str, str] = {}
    return _redact(value, _alternatives(schema), pointer, redactions, secret=False), redactions


def redact_definition(definition: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a TaskDef without secrets in its template, in the defaults and examples of its schemas, and in its texts.

    Also return the redacted secrets by their pointers.
    """
    redactions: dict[str, str] = {}
    clean: dict[str, Any] = {}
    for key, item in definition.items():
        place = join_pointer("/taskdef", key)
        if key in ("inputSchema", "outputSchema"):
            clean[key] = _redact_schema(item, place, redactions, secret=False)
        else:
            schema = _part(definition, "inputSchema", "data") if key == "inputTemplate" else None
            clean[key] = _redact(item, _alternatives(schema), place, redactions, secret=False)
    return clean, redactions


def known_secrets(secrets: Mapping[str, str]) -> dict[str, Mask]:
    """Return the mask of each secret that is long enough to be searched elsewhere, by the pointer of the secret."""
    return {
        pointer: Mask([secret], whole_words=len(secret) < SHORTEST)
        for pointer, secret in secrets.items()
        if len(secret) >= _SHORTEST_WORD
    }


def replace_known(value: Any, known: Mapping[str, Mask]) -> Any:
    """Return the JSON value without the known secrets, which its keys can hold, too."""
    if isinstance(value, str):
        for mask in known.values():
            value = mask(value)
        return value
    if isinstance(value, Mapping):
        replaced: dict[str, Any] = {}
        for key, item in value.items():
            replaced[_free(replace_known(key, known), replaced)] = replace_known(item, known)
        return replaced
    return [replace_known(item, known) for item in value] if isinstance(value, list) else value


def schema_of(definition: Mapping[str, Any] | None, key: str) -> Any:
    """Return the JSON Schema of `params` or `result` in a TaskDef; None if it has none."""
    for name in ("inputSchema", "outputSchema"):
        schema = _part(definition, name, "data", "properties", key)
        if schema is not None:
            return schema
    return None


def _part(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _redact(value: Any, schemas: Sequence[_Schema], pointer: str, redactions: dict[str, str], *, secret: bool) -> Any:
    secret = secret or _is_password(schemas)
    if isinstance(value, Mapping):
        clean_fields: dict[str, Any] = {}
        named = {key.lower(): item for key, item in value.items() if isinstance(item, str)}
        field = named.get("name") or named.get("key") or ""
        for key, item in value.items():
            shown = _free(_without_secret_key(key, schemas, pointer, redactions, secret=secret), clean_fields)
            name = field if field and key.lower() == "value" else key
            place, hidden = join_pointer(pointer, shown), secret or _is_secret_field(name, item)
            if is_password(name) and isinstance(item, int | float) and not isinstance(item, bool) and item:
                clean_fields[shown] = type(item)(0)
                note([str(item)], place, redactions)
            else:
                clean_fields[shown] = _redact(item, _of_property(schemas, key), place, redactions, secret=hidden)
        return clean_fields
    if isinstance(value, list):
        clean: list[Any] = []
        for index, item in enumerate(value):
            place = join_pointer(pointer, index)
            item = _redact(item, _of_item(schemas, index), place, redactions, secret=secret)
            clean.append(_after(clean[-1], item, place, redactions, pair=len(value) == 2) if clean else item)
        return clean
    if not isinstance(value, str) or value in ("", REDACTED):
        return value
    if not secret and value.lstrip()[:1] in ("{", "["):
        try:
            parsed = json.loads(value)
            inner: dict[str, str] = {}
            redacted = _redact(parsed, schemas, pointer, inner, secret=False)
        except (ValueError, RecursionError):  # not JSON, or too deep
            pass
        else:
            for place, hidden_text in inner.items():
                note([hidden_text], place, redactions)
            return json.dumps(redacted) if inner else value
    text, secrets = (REDACTED, [value]) if secret else _redact_text(value)
    note(secrets, pointer, redactions)
    return text


def _after(previous: Any, item: Any, pointer: str, redactions: dict[str, str], *, pair: bool) -> Any:
    """Return an item of a list without the secret that the item before it announces: `["--token", "..."]`.

    Args:
        previous: the item before it, redacted.
        item: the item, already redacted alone.
        pointer: the place of the item.
        redactions: collects the secrets.
        pair: whether the list has two items, such as the name and the value of a header.
    """
    if not isinstance(previous, str) or not isinstance(item, str) or not 0 < len(previous) <= _LONGEST_NAME:
        return item
    if pair and looks_secret(previous) and may_be_token(item, SHORTEST):
        text, secrets = REDACTED, [item]
    else:
        text, secrets = _redact_text(f"{previous} {item}")
        if not text.startswith(f"{previous} "):
            return item
        text = text.removeprefix(f"{previous} ")
    note(secrets, pointer, redactions)
    return text if secrets else item


def _is_password(schemas: Sequence[_Schema]) -> bool:
    return any(schema.get("format") == "password" for schema in schemas)


def _is_secret_field(name: str, item: Any) -> bool:
    """Whether a field holds secrets. `tokens` can be plain words. They count as secrets in a map, or if each looks like
    one."""
    if looks_secret(name):
        return True
    items = item if isinstance(item, list) else [item]
    return looks_secret(name.removesuffix("s")) and (
        isinstance(item, Mapping) or all(isinstance(member, str) and may_be_token(member) for member in items)
    )


def _without_secret_key(
    key: str, schemas: Sequence[_Schema], pointer: str, redactions: dict[str, str], *, secret: bool
) -> str:
    """Return the key as it is shown. In a map of secrets, a key that no schema names can be the secret."""
    is_declared = any(key in (_part(schema, "properties") or ()) for schema in schemas)
    all_keys = any(_part(schema, "propertyNames", "format") == "password" for schema in schemas)
    if not is_declared and (all_keys or (secret and (may_be_token(key, SHORTEST) or len(key) >= _LONG_KEY))):
        shown, secrets = REDACTED, [key]
    else:
        shown, secrets = _redact_text(key)
    note(secrets, f"{pointer} (key)", redactions)
    return shown


def note(secrets: Sequence[str], pointer: str, redactions: dict[str, str]) -> None:
    """Add secrets of one place to `redactions`. Each gets a pointer of its own."""
    for secret in secrets:
        redactions[_free(pointer, redactions)] = secret


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return `name`, with a number if it is taken."""
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return name if name not in taken else next(candidate for candidate in numbered if candidate not in taken)


def _redact_schema(value: Any, pointer: str, redactions: dict[str, str], *, secret: bool, names: bool = False) -> Any:
    """Return a JSON Schema without secrets in defaults, examples and texts. With `names`, `value` has a schema for each
    field."""
    if isinstance(value, list):
        return [
            _redact_schema(item, join_pointer(pointer, index), redactions, secret=secret)
            for index, item in enumerate(value)
        ]
    if not isinstance(value, Mapping):
        return _redact(value, (), pointer, redactions, secret=False)
    schemas = [] if names else _alternatives(value)
    secret = secret or _is_password(schemas)
    clean: dict[str, Any] = {}
    for key, item in value.items():
        place = join_pointer(pointer, key)
        if names:
            clean[key] = _redact_schema(item, place, redactions, secret=secret or looks_secret(key))
        elif key in ("default", "const"):
            clean[key] = _redact(item, schemas, place, redactions, secret=secret)
        elif key in ("examples", "enum") and isinstance(item, list):
            clean[key] = [_redact(sample, schemas, place, redactions, secret=secret) for sample in item]
        else:
            clean[key] = _redact_schema(item, place, redactions, secret=secret, names=key in _NAMED)
    return clean


def _alternatives(schema: Any) -> list[_Schema]:
    """Yield the schema and its parts, because a field that can be None has its type below `anyOf`."""
    if not isinstance(schema, Mapping):
        return []
    parts = [schema[key] for key in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(key), list)]
    return [schema, *(alternative for items in parts for item in items for alternative in _alternatives(item))]


def _of_property(schemas: Sequence[_Schema], key: str) -> list[_Schema]:
    """Return the schemas of a field, or of the fields that a schema does not name."""
    alternatives: list[_Schema] = []
    for schema in schemas:
        properties, patterns = schema.get("properties"), schema.get("patternProperties")
        if isinstance(properties, Mapping) and key in properties:
            alternatives += _alternatives(properties[key])
            continue
        others = patterns.values() if isinstance(patterns, Mapping) else ()
        for other in (*others, schema.get("additionalProperties")):
            alternatives += _alternatives(other)
    return alternatives


def _of_item(schemas: Sequence[_Schema], index: int) -> list[_Schema]:
    """Return the schemas of an item. A tuple has one for each position."""
    alternatives: list[_Schema] = []
    for schema in schemas:
        first = schema.get("prefixItems")
        if isinstance(first, list) and index < len(first):
            alternatives += _alternatives(first[index])
        else:
            alternatives += _alternatives(schema.get("items"))
    return alternatives
