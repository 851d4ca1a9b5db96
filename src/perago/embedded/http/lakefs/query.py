"""The query of a request, read and refused as lakeFS does."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import unquote_plus

from perago.embedded.http.lakefs.wire import MalformedRequestError, UnbindableRequestError
from perago.embedded.lakefs.errors import NotModelled
from perago.embedded.lakefs.listing import MAX_AMOUNT

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DATE_TIME = (
    r"^[0-9]{4}-(0[1-9]|10|11|12)-(0[1-9]|[12][0-9]|3[01])T([0-1][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)"
    r"(\.[0-9]+)?(Z|(\+|-)[0-9]{2}:[0-9]{2})?$"
)
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_MAX_INTEGER = (1 << 63) - 1


class Query:
    """The parameters of one request. A part with a bad percent escape or a `;` is dropped, as lakeFS does."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for part in text.split("&"):
            if part and ";" not in part and not _BAD_ESCAPE.search(part):
                name, _, value = part.partition("=")
                self._values.setdefault(unquote_plus(name), []).append(unquote_plus(value))

    def text(self, name: str) -> str:
        """A text, `""` if it is missing.

        Raises:
            UnbindableRequestError: it is given twice.
        """
        values = self._values.get(name, [""])
        if len(values) > 1:
            raise _unbindable(name)
        return values[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """A text that may be given several times.

        Raises:
            MalformedRequestError: it is given without a value.
        """
        found = tuple(self._values.get(name, ()))
        if found == ("",):
            raise _empty(name)
        return found

    def required(self, name: str) -> str:
        """A text that must be there.

        Raises:
            MalformedRequestError: it is missing or empty.
        """
        if name not in self._values:
            raise MalformedRequestError(f'parameter "{name}" in query has an error: value is required but missing')
        if not self.text(name):
            raise _empty(name)
        return self.text(name)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, spelled in one of Go's ways.

        Raises:
            MalformedRequestError: it is spelled in none.
        """
        if name not in self._values:
            return default
        value = self.text(name)
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        if not value:
            raise _empty(name)
        raise MalformedRequestError(
            f'parameter "{name}" in query has an error: value {value}: an invalid boolean: invalid syntax'
        )

    def amount(self) -> int:
        """The parameter `amount`, -1 if it is missing.

        Raises:
            MalformedRequestError: not an integer from -1 to 1,000.
        """
        if "amount" not in self._values:
            return -1
        value, problem = self.text("amount"), None
        if not value:
            raise _unbindable("amount")
        if not _INTEGER.fullmatch(value):
            problem = f"value {value}: an invalid integer: invalid syntax"
        elif abs(int(value)) > _MAX_INTEGER:
            problem = f"value {value}: an invalid integer: value out of range"
        elif int(value) > MAX_AMOUNT:
            problem = f"number must be at most {MAX_AMOUNT}"
        elif int(value) < -1:
            problem = "number must be at least -1"
        if problem is not None:
            raise MalformedRequestError(f'parameter "amount" in query has an error: {problem}')
        return int(value)

    def choice(self, name: str, *choices: str) -> str:
        """One of some texts, the first if it is missing.

        Raises:
            MalformedRequestError: none of them.
        """
        value = self.text(name) if name in self._values else choices[0]
        if not value:
            raise _unbindable(name)
        if value not in choices:
            allowed = ",".join(f'"{choice}"' for choice in sorted(choices, reverse=True))
            raise MalformedRequestError(
                f'parameter "{name}" in query has an error: value is not one of the allowed values [{allowed}]'
            )
        return value

    def moment(self, name: str) -> float | None:
        """A point in time as seconds since the epoch, None if it is missing.

        Raises:
            MalformedRequestError: no RFC 3339 date and time.
            UnbindableRequestError: one without a time zone.
        """
        value = self.text(name)
        if not value:
            return None
        if not re.search(_DATE_TIME, value):
            raise MalformedRequestError(
                f'parameter "{name}" in query has an error: string doesn\'t match the format "date-time": '
                f'string doesn\'t match pattern "{_DATE_TIME}"'
            )
        found = datetime.fromisoformat(value.replace("Z", "+00:00").replace(":60", ":59"))
        if found.tzinfo is None:
            raise UnbindableRequestError(
                f"Invalid format for parameter {name}: error parsing '{value}' as RFC3339 or 2006-01-02 time: "
                f'parsing time "{value}": extra text: "{value[10:]}"'
            )
        return found.timestamp()

    def refuse(self, call: str, *names: str) -> None:
        """Raise `NotModelled` if one of these parameters is given and not false: they would change what `call` does."""
        for name in names:
            if name in self._values and self.text(name) not in _FALSE:
                raise NotModelled(f"the parameter {name!r} of {call}")


def _empty(name: str) -> MalformedRequestError:
    return MalformedRequestError(f'parameter "{name}" in query has an error: empty value is not allowed')


def _unbindable(name: str) -> UnbindableRequestError:
    return UnbindableRequestError(
        f"Invalid format for parameter {name}: multiple values for single value parameter '{name}'"
    )
