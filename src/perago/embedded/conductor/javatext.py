"""What shows that the server is a Java program: `{a=[1, null]}` and `1.0E20` in longer texts, the order of sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any


def java_text(value: Any) -> str:
    """What `Objects.toString` gives for a value that was read from JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(java_text(item) for item in value) + "]"
    return str(value)


def _double(value: float) -> str:
    """Plain between 0.001 and ten million, otherwise scientific; always with a digit after the point."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    mantissa = "".join(map(str, digits))
    power = int(exponent) + len(mantissa) - 1
    return f"{'-' if sign else ''}{mantissa[0]}.{mantissa[1:] or '0'}E{power}"


_BUCKETS = 16
_FULL = 0.75
"""A `HashSet` begins with 16 buckets and doubles them when three quarters are taken."""


def java_set(texts: Iterable[str]) -> list[str]:
    """Texts without repetitions in the order in which a `HashSet` gives them."""
    found = list(dict.fromkeys(texts))
    buckets = _BUCKETS
    while len(found) > buckets * _FULL:
        buckets *= 2
    return sorted(found, key=lambda text: _spread(text) % buckets)


def _spread(text: str) -> int:
    """The hash of a text as `HashMap` uses it."""
    hashed = 0
    encoded = text.encode("utf-16-be", "surrogatepass")
    for index in range(0, len(encoded), 2):
        hashed = (31 * hashed + int.from_bytes(encoded[index : index + 2], "big")) & 0xFFFFFFFF
    return hashed ^ (hashed >> 16)
