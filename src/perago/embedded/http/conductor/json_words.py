"""What Jackson says about a text that is no JSON, where Python's reader has given up on it.

Measured on a real server; clients see it behind `JSON parse error: ` in a 500.
"""

from __future__ import annotations

import re

_TOKENS = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_WORD = re.compile(r"[\w$]+")
_LAST_WORD = re.compile(r"(true|false|null)$")
_SOURCE = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled)"
_UNFINISHED_NUMBERS = (
    (re.compile(r"\.(.)", re.DOTALL), "Decimal point not followed by a digit"),
    (re.compile(r"[eE][+-]?(.)", re.DOTALL), "Exponent indicator not followed by a digit"),
)
_NO_NUMBERS = (
    (re.compile(r"-(.)", re.DOTALL), "expected digit (0-9) to follow minus sign, for valid numeric value"),
    (
        re.compile(r"(\+)"),
        "JSON spec does not allow numbers to have plus signs: enable "
        "`JsonReadFeature.ALLOW_LEADING_PLUS_SIGN_FOR_NUMBERS` to allow",
    ),
)
_OPENERS = {"{": "Object", "[": "Array"}
_MARKERS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def no_json(text: str, python: str, position: int) -> str:
    """What Jackson says where Python's reader says `python` at `position`."""
    if python.startswith(("Unterminated string", "Invalid control", "Invalid \\")):
        return _in_string(text, python, position)
    if python.startswith("Illegal trailing comma"):  # Python 3.13 points to the comma, others behind it
        position += 1
        python = "Expecting property name" if python.endswith("object") else "Expecting value"
    rest = text[position:].lstrip(" \t\r\n")
    if not rest:
        return _end_of_input(text, python, position)
    if python.startswith("Expecting property name"):
        return f"Unexpected character ({_shown(rest[0])}): was expecting double-quote to start field name"
    if python.startswith("Expecting ':'"):
        return f"Unexpected character ({_shown(rest[0])}): was expecting a colon to separate field name and value"
    if python.startswith("Expecting ','"):
        return _after_value(text, rest, position)
    return _no_value(text, rest, position)


def _in_string(text: str, python: str, position: int) -> str:
    if python.startswith("Invalid control"):
        reason = "has to be escaped using backslash to be included in string value"
        return f"Illegal unquoted character ((CTRL-CHAR, code {ord(text[position])})): {reason}"
    if "uXXXX" in python:
        wrong = re.compile(r"[^0-9a-fA-F]").search(text, text.index("u", position - 1) + 1)
        if wrong:
            return f"Unexpected character ({_shown(wrong[0])}): expected a hex-digit for character escape sequence"
    elif "escape" in python:
        return f"Unrecognized character escape {_shown(text[position + 1])}"
    return "Unexpected end-of-input in VALUE_STRING"


def _after_value(text: str, rest: str, position: int) -> str:
    """Something follows a value that Python took for complete."""
    word, more = _LAST_WORD.search(text[:position]), _WORD.match(text, position)
    if word and more:
        return unknown_token(word[0] + more[0])
    if text[position - 1].isdigit():
        if rest[0].isdigit():
            return "Invalid numeric value: Leading zeroes not allowed"
        for pattern, reason in _UNFINISHED_NUMBERS:
            if match := pattern.match(rest):
                return f"Unexpected character ({_shown(match[1])}) in numeric value: {reason}"
    kind = _OPENERS[_open_at(text, position)[-1][0]]
    return f"Unexpected character ({_shown(rest[0])}): was expecting comma to separate {kind} entries"


def _no_value(text: str, rest: str, position: int) -> str:
    word = _WORD.match(rest)
    if word and not rest[0].isdigit():
        return unknown_token(word[0])
    if rest[0] in "]}":
        if not _open_at(text, position):
            expected = "]" if rest[0] == "}" else "}"
            return (
                f"Unexpected close marker '{rest[0]}': expected '{expected}' (for root starting at {_SOURCE}; line: 1])"
            )
        return f"Unexpected character ({_shown(rest[0])}): expected a value"
    if rest[0] == "/":
        reason = "(not recognized as one since Feature 'ALLOW_COMMENTS' not enabled for parser)"
        return f"Unexpected character ({_shown(rest[0])}): maybe a (non-standard) comment? {reason}"
    for pattern, reason in _NO_NUMBERS:
        if match := pattern.match(rest):
            return f"Unexpected character ({_shown(match[1])}) in numeric value: {reason}"
    return f"Unexpected character ({_shown(rest[0])}): expected a valid value {_TOKENS}"


def _end_of_input(text: str, python: str, position: int) -> str:
    markers = _open_at(text, position)
    if not markers:
        return "No content to map due to end-of-input"
    opener, place = markers[-1]
    last = text[:position].rstrip(" \t\r\n")[-1:]
    if (opener == "{" and last in (",", ":")) or python.startswith("Expecting ':'"):
        return "Unexpected end-of-input within/between Object entries"
    line, column = text.count("\n", 0, place) + 1, place - (text.rfind("\n", 0, place) + 1) + 1
    where = f"{_SOURCE}; line: {line}, column: {column}]"
    return f"Unexpected end-of-input: expected close marker for {_OPENERS[opener]} (start marker at {where})"


def unknown_token(word: str) -> str:
    """`word` is no value."""
    return f"Unrecognized token '{word}': was expecting {_TOKENS}"


def _open_at(text: str, end: int) -> list[tuple[str, int]]:
    """The brackets and braces that are open at `end`, with their places; strings are stepped over."""
    stack: list[tuple[str, int]] = []
    for match in _MARKERS.finditer(text[:end]):
        if match[0] in _OPENERS:
            stack.append((match[0], match.start()))
        elif match[0] in "]}" and stack:
            stack.pop()
    return stack


def deepest(text: str) -> int:
    """How deep brackets and braces are nested; strings are stepped over."""
    depth = most = 0
    for match in _MARKERS.finditer(text):
        depth += (match[0] in _OPENERS) - (match[0] in "]}")
        most = max(most, depth)
    return most


def _shown(character: str) -> str:
    return f"'{character}' (code {ord(character)})"
