"""How the server's JSON reader turns what it gets into the type of a field.

It is lenient (`"2"` is a number, 1.5 is 1, a number is a text, 3 is the fourth constant of an enum) and answers 500
where it cannot help (`reference/conductor.md` 5). A null leaves a primitive at zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from perago.embedded.conductor import jackson
from perago.embedded.conductor.errors import malformed

_NUMBER = re.compile(r"\s*-?\d+\s*")
_BOOLEANS = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}


class FieldReader:
    """Reads typed fields of one JSON object on behalf of one operation.

    Raises `Malformed`, from every method, for a value that the server's reader refuses.
    """

    def __init__(self, operation: str, source: Mapping[str, Any]) -> None:
        self._operation = operation
        self._source = source

    def integer(self, field: str, default: int, *, bits: int = 32) -> int:
        """A whole number; null is 0, a fraction is cut."""
        if field not in self._source:
            return default
        return self._number(field, "int" if bits == 32 else "long", bits) or 0

    def optional_integer(self, field: str, *, bits: int = 32) -> int | None:
        """A whole number, or None for null or absent."""
        return self._number(field, f"java.lang.{'Integer' if bits == 32 else 'Long'}", bits)

    def _number(self, field: str, java: str, bits: int) -> int | None:
        value = self._source.get(field)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._refusal(jackson.wrong_token(java, value))
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise self._refusal(jackson.not_a_number(java, value, bits=bits))
        number = int(value)
        if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            return number
        if isinstance(value, str):
            raise self._refusal(jackson.not_a_number(java, value, bits=bits))
        raise self._refusal(jackson.out_of_range(number, bits=bits))

    def text(self, field: str) -> str | None:
        """A text; numbers and booleans are spelled out."""
        value = self._source.get(field)
        return None if value is None else self._text(value)

    def texts(self, field: str) -> list[str | None]:
        """A list of texts; null or absent is empty."""
        items = self.items(field, of=jackson.TEXT_LIST)
        return [None if item is None else self._text(item) for item in items]

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value)
        raise self._refusal(jackson.wrong_token(jackson.TEXT, value))

    def boolean(self, field: str, default: bool) -> bool:
        """A boolean; null and an empty text are false, a whole number is whether it is not 0."""
        value = self._source.get(field, default)
        if value is None or value == "":
            return False
        if isinstance(value, str):
            if value.strip() not in _BOOLEANS:
                raise self._refusal(jackson.not_a_boolean(value))
            return _BOOLEANS[value.strip()]
        if isinstance(value, int):
            return bool(value)
        raise self._refusal(jackson.wrong_token("boolean", value))

    def choice(self, field: str, default: str, choices: tuple[str, ...], *, of: str = "enum") -> str:
        """One of the constants of the enum `of`; null is not stored and so becomes the default again."""
        return self.optional_choice(field, choices, of=of) or default

    def optional_choice(
        self, field: str, choices: tuple[str, ...], *, of: str, listed: tuple[str, ...] = ()
    ) -> str | None:
        """A constant spelled exactly, or by its number in the order of `choices`; None for null or absent.

        `listed` is the order in which a refusal names them, where that is another one.
        """
        value = self._source.get(field)
        if value is None or (isinstance(value, str) and value in choices):
            return value
        index = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and value.isdigit():
            index = int(value)
        if index is None or not 0 <= index < len(choices):
            raise self._refusal(jackson.not_a_choice(of, value, listed or choices))
        return choices[index]

    def items(self, field: str, *, of: str = jackson.TEXT_LIST) -> list[Any]:
        """A list of the Java type `of`; null or absent is empty. Its items are left as they are."""
        value = self._source.get(field)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self._refusal(jackson.not_a_list(of, value))
        return list(value)

    def mapping(self, field: str, *, of: str = jackson.OBJECT_MAP) -> dict[str, Any]:
        """An object of the Java type `of`; null or absent is empty. Its values are left as they are."""
        value = self._source.get(field)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._refusal(jackson.not_a_map(of, value))
        return dict(value)

    def text_mapping(self, field: str, *, of: str) -> dict[str, str]:
        """An object of texts; what is null is left out."""
        return {name: self._text(value) for name, value in self.mapping(field, of=of).items() if value is not None}

    def bean(self, field: str, *, of: str) -> dict[str, Any] | None:
        """The object of a Java class; None for null or absent."""
        value = self._source.get(field)
        if value is None or isinstance(value, Mapping):
            return None if value is None else dict(value)
        raise self._refusal(jackson.not_a_bean(of, value))

    def _refusal(self, words: str) -> Exception:
        return malformed(self._operation, words)


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level nulls are left out of every answer (`reference/conductor.md` 1)."""
    return {name: value for name, value in fields.items() if value is not None}
