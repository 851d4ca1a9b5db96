"""JSON bodies in and out, checked and worded as lakeFS does.

lakeFS checks a request against its API description first. What it says then goes on with a dump of the schema, which
stays out here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from starlette.responses import Response

from perago.embedded.http.lakefs.json_reader import JsonError, Number, read_json
from perago.embedded.lakefs.errors import Invalid, NotModelled


class MalformedRequestError(Invalid):
    """A request that lakeFS refuses by its API description alone."""


class UnbindableRequestError(MalformedRequestError):
    """A request that lakeFS refuses even before that, in plain text."""


_BODY = "request body has an error"


class JsonAnswer(Response):
    """Compact JSON with a final newline, as lakeFS writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode `content`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Kind(Enum):
    """The type of a member of a body: the Python type that it is read as, and the words of a refusal."""

    TEXT = (str, "a string")
    FLAG = (bool, "a boolean")
    NUMBER = (Number, "an integer")
    TEXTS = (list, "an array")
    TEXT_MAP = (dict, "an object")
    OBJECT = (Mapping, "an object")

    def fits(self, value: Any) -> bool:
        """Whether a JSON value is of this type."""
        return isinstance(value, self.value[0]) and (self is not Kind.NUMBER or value.is_whole)

    @property
    def words(self) -> str:
        words: str = self.value[1]
        return words


@dataclass(frozen=True, slots=True)
class Schema:
    """What a body may hold. Members that it does not name are ignored, and so are flags that are null."""

    name: str
    members: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nested: Mapping[str, Schema] = field(default_factory=dict)
    optional: bool = False
    """Whether the request may have no body at all."""
    operation: str = ""
    """What lakeFS calls the request when a number is whole, but not written as one of 64 bits."""

    def read(self, raw: bytes, content_type: str) -> Mapping[str, Any]:
        """The checked body.

        Raises:
            MalformedRequestError: no body, no JSON, or not what the schema says.
            NotModelled: nested too deeply for Python.
        """
        if not raw:
            if self.optional:
                return {}
            raise MalformedRequestError(f"{_BODY}: value is required but missing")
        if content_type.partition(";")[0].strip() != "application/json":
            raise MalformedRequestError(f'{_BODY}: header Content-Type has unexpected value "{content_type}"')
        body = _decode(raw)
        if not isinstance(body, dict):
            raise self._refusal("Value is not nullable" if body is None else "value must be an object")
        flags = {name for name, kind in self.members.items() if kind is Kind.FLAG}
        given = {name: value for name, value in body.items() if value is not None or name not in flags}
        self._check(given, "")
        return {name: self._value(given[name]) for name in given if name in self.members}

    def _check(self, body: Mapping[str, Any], path: str) -> None:
        for name in sorted(body.keys() & self.members.keys()):
            self._check_member(name, body[name], f"{path}/{name}")
        for name in sorted(self.required):
            if name not in body:
                raise self._refusal(f'property "{name}" is missing', f"{path}/{name}")

    def _check_member(self, name: str, value: Any, path: str) -> None:
        kind = self.members[name]
        self._check_any(value, path)
        if not kind.fits(value):
            raise self._refusal(f"value must be {kind.words}", path)
        if kind is Kind.TEXT_MAP:
            self._check_texts(value.items(), path)
        if kind is Kind.TEXTS:
            self._check_texts(enumerate(value), path)
        if name in self.patterns and not re.search(self.patterns[name], value):
            raise self._refusal(f'string doesn\'t match the regular expression "{self.patterns[name]}"', path)
        if name in self.choices and value not in self.choices[name]:
            allowed = json.dumps(self.choices[name], separators=(",", ":"))
            raise self._refusal(f"value is not one of the allowed values {allowed}", path)
        if name in self.nested:
            self.nested[name]._check(value, path)

    def _check_texts(self, items: Iterable[tuple[object, Any]], path: str) -> None:
        for key, item in items:
            self._check_any(item, f"{path}/{key}")
            if not isinstance(item, str):
                raise self._refusal("value must be a string", f"{path}/{key}")

    def _check_any(self, value: Any, path: str) -> None:
        """What no member may be, whatever its type."""
        if value is None:
            raise self._refusal("Value is not nullable", path)
        if isinstance(value, Number) and value.is_beyond_floats:
            raise self._refusal(f'strconv.ParseFloat: parsing "{value.text}": value out of range', path)

    def _value(self, checked: Any) -> Any:
        if not isinstance(checked, Number):
            return checked
        if checked.integer is None:
            raise UnbindableRequestError(f"Error unmarshalling body '{self.operation}' as JSON")
        return checked.integer

    def _refusal(self, problem: str, path: str = "") -> MalformedRequestError:
        place = f'Error at "{path}": ' if path else ""
        return MalformedRequestError(
            f"{_BODY}: doesn't match schema #/components/schemas/{self.name}: {place}{problem}"
        )


def _decode(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except JsonError as error:
        raise MalformedRequestError(f"{_BODY}: failed to decode request body: {error}") from None
    except RecursionError:
        raise NotModelled("JSON that is nested so deeply") from None
