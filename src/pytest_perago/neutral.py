"""Neutral mutations: changes of a file that leave its data as they are, so that the result has to stay the same.

A function that loses data on such an input fails nowhere, so the loss goes unnoticed. Values that describe the bytes of
the file, such as sizes and digests, may change.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import Any

from pytest_perago.mutations import CSV, LINES

_LABELS = frozenset(
    (
        *("bom", "crlf", "no-final-newline", "blank-line-end", "reordered", "key-order"),
        *("row-groups", "narrow", "dictionary", "large-string"),
    )
)
_SUFFIXES = (*CSV, *LINES, ".json", ".parquet")
_DIGEST = re.compile(r"[0-9a-fA-F]{8,}|[A-Za-z0-9+/]{20,}={0,2}")
_TOLERANCE = 1e-4
"""Relative difference of two numbers that count as equal, because 32 bits hold about seven digits."""


def is_neutral(label: str, path: str) -> bool:
    """Whether a mutation leaves the data of the file as they are."""
    return label in _LABELS and PurePosixPath(path).suffix.lower() in _SUFFIXES


def changed_value(before: Any, after: Any, sizes: tuple[int, int], pointer: str = "") -> tuple[str, Any, Any] | None:
    """Return the first value of a result that must not change, as its JSON pointer and both values; None without one.

    `sizes` are the sizes of the mutated file. The order of lists and the bytes of the file do not count.
    """
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        parts = [(f"{pointer}/{key}", before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        if sorted(map(repr, before)) == sorted(map(repr, after)):
            return None
        parts = [(f"{pointer}/{number}", *pair) for number, pair in enumerate(zip(before, after, strict=True))]
    else:
        return None if _is_equal(before, after, sizes) else (pointer or "/", before, after)
    found = (changed_value(old, new, sizes, place) for place, old, new in parts)
    return next((each for each in found if each is not None), None)


def _is_equal(before: Any, after: Any, sizes: tuple[int, int]) -> bool:
    if isinstance(before, str) and isinstance(after, str):
        return sorted(before) == sorted(after) or bool(_DIGEST.fullmatch(before) and _DIGEST.fullmatch(after))
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, int | float) and isinstance(after, int | float):
        old, new = sizes
        is_size = before >= old and math.isclose(after - before, new - old, abs_tol=0.5)
        is_share = before != 0 and math.isclose(after / before, new / old, rel_tol=1e-9)  # such as a size in KiB
        return is_size or is_share or math.isclose(before, after, rel_tol=_TOLERANCE)
    return bool(before == after)
