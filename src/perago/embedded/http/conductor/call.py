"""One request as Spring hands it to a Java method: converted parameters, a body of one type, and its refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from perago.embedded.conductor.errors import SERVICE, Malformed, bad_request, malformed
from perago.embedded.conductor.jackson import TASK_DEF, TEXT_LIST, not_a_bean, not_a_list, not_a_map
from perago.embedded.http.conductor.json_reader import read_json

_INTEGER = re.compile(r"([+-]?)(0[xX]|#)?([0-9a-fA-F]+)")
_BOOLEANS = dict.fromkeys(("true", "on", "yes", "1"), True) | dict.fromkeys(("false", "off", "no", "0"), False)


@dataclass(frozen=True, slots=True)
class Body:
    """What a method takes as its body: the Java type, and the signature that the server prints when it is missing."""

    java: str
    signature: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read completely.

    The methods raise `Malformed` (500) where Spring or its JSON reader would refuse (`reference/conductor.md` 1).
    """

    method: str
    path: str
    parts: Mapping[str, str]
    """The variables of the path."""
    query: QueryParams
    content_type: str
    raw: bytes

    @classmethod
    def of(cls, request: Request, raw: bytes) -> Call:
        """The call that `request` with the body `raw` makes."""
        content_type = request.headers.get("content-type") or "application/octet-stream"
        parts = {name: str(value) for name, value in request.path_params.items()}
        return cls(request.method, request.url.path, parts, request.query_params, content_type, raw)

    @property
    def operation(self) -> str:
        """What errors name."""
        return f"{self.method} {self.path}"

    # ---------------------------------------------------------------- parameters

    def text(self, name: str) -> str | None:
        """A text parameter."""
        return self.query.getlist(name)[0] if name in self.query else None

    def required_text(self, name: str) -> str:
        """A text parameter that must be there, however empty."""
        value = self.text(name)
        if value is None:
            words = f"Required request parameter '{name}' for method parameter type String is not present"
            raise self.refused(words)
        return value

    def texts(self, name: str) -> list[str] | None:
        """A parameter that is given several times, or once with commas."""
        values = self.query.getlist(name)
        return (values[0].split(",") if len(values) == 1 else values) if values else None

    def integer(self, name: str, default: int, *, java: str = "int") -> int:
        """A whole number; an empty one is not given."""
        value = self.optional_integer(name, java=java)
        return default if value is None else value

    def optional_integer(self, name: str, *, java: str = "java.lang.Integer") -> int | None:
        """A whole number, or None if it is empty or not given."""
        value = self.text(name)
        return self._number(name, value, java) if value else None

    def path_integer(self, name: str) -> int:
        """A whole number in the path."""
        return self._number(name, self.parts[name], "java.lang.Integer")

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean; an empty one is not given."""
        value = self.text(name)
        if not value:
            return default
        try:
            return _BOOLEANS[value.strip().lower()]
        except KeyError:
            raise self._not_convertible(name, "boolean", f"Invalid boolean value [{value}]") from None

    def _number(self, name: str, text: str, java: str) -> int:
        match = _INTEGER.fullmatch(text.strip())
        bits = 64 if java in ("long", "java.lang.Long") else 32
        try:
            number = int(match[1] + match[3], 16 if match[2] else 10) if match else None
        except ValueError:
            number = None
        if number is None or not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise self._not_convertible(name, java, f'For input string: "{text}"')
        return number

    def _not_convertible(self, name: str, java: str, reason: str) -> Malformed:
        types = f"of type 'java.lang.String' to required type '{java}'"
        return self.refused(f"Method parameter '{name}': Failed to convert value {types}; {reason}")

    # ---------------------------------------------------------------------- body

    def bean(self, body: Body) -> Any:
        """The body as the object of a class. A definition of a task may also be the text of its name."""
        value = self._json(body)
        if isinstance(value, Mapping) or (body.java == TASK_DEF and isinstance(value, str) and value):
            return value
        raise malformed(self.operation, not_a_bean(body.java, value))

    def mapping(self, body: Body) -> dict[str, Any]:
        """The body as an object with any values."""
        value = self._json(body)
        if not isinstance(value, dict):
            raise malformed(self.operation, not_a_map(body.java, value))
        return value

    def items(self, body: Body) -> list[Any]:
        """The body as a list; one of texts has nothing else in it."""
        value = self._json(body)
        if not isinstance(value, list):
            raise malformed(self.operation, not_a_list(body.java, value))
        return [self._text(item) for item in value] if body.java == TEXT_LIST else value

    def _text(self, item: Any) -> str:
        if isinstance(item, Mapping | list):
            raise malformed(self.operation, not_a_list("java.lang.String", item))
        return item if isinstance(item, str) else str(item)

    def body_text(self, signature: str) -> str:
        """The body as it is, in UTF-8; what a form sends has its equals sign."""
        if not self.raw:
            raise self._missing(signature)
        text = self.raw.decode("utf-8", "replace")
        form = self.content_type.startswith("application/x-www-form-urlencoded")
        return f"{text}=" if form and "=" not in text else text

    def _json(self, body: Body) -> Any:
        if not self.raw:
            raise self._missing(body.signature)
        self._check_content_type()
        value = read_json(self.operation, self.raw, wanted=body.java)
        if value is None:
            raise self._missing(body.signature)
        return value

    def _check_content_type(self) -> None:
        kind, _, parameters = self.content_type.partition(";")
        major, _, minor = kind.strip().lower().partition("/")
        if not minor:
            raise self.refused(f"Invalid mime type \"{self.content_type}\": does not contain '/'")
        if "*" in (major, minor):
            raise bad_request(self.operation, "Content-Type cannot contain wildcard type '*'")
        if major == "application" and (minor == "json" or minor.endswith("+json")):
            return
        shown = self.content_type
        if "charset" not in parameters and kind != "application/octet-stream":
            shown = f"{self.content_type};charset=UTF-8"
        raise self.refused(f"Content-Type '{shown}' is not supported")

    def _missing(self, signature: str) -> Malformed:
        return self.refused(f"Required request body is missing: {signature}")

    def refused(self, words: str) -> Malformed:
        """A 500 with just these words."""
        return Malformed(SERVICE, self.operation, words)
