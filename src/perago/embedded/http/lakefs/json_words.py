"""What Go's JSON reader says about a text that is no JSON: the first byte that cannot stand where it does, and why."""

from __future__ import annotations

import re

_BLANK = re.compile(rb"[ \t\r\n]*")
_STRING_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_ESCAPES = b'"\\/bfnrt'
_HEX = b"0123456789abcdefABCDEF"
_CLOSING = {ord("["): ord("]"), ord("{"): ord("}")}
_LITERALS = {ord("t"): "true", ord("f"): "false", ord("n"): "null"}
_QUOTED = {"'": "\\'", '"': '"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}

_VALUE = "looking for beginning of value"
_KEY = "looking for beginning of object key string"
MAX_DEPTH = 10_000


class _Found(Exception):
    """The problem was found; its text is what Go says."""


def problem_of(raw: bytes) -> str | None:
    """Go's words about the first value of `raw`, None if that is JSON."""
    try:
        _Scan(raw).value()
    except _Found as found:
        return str(found)
    return None


class _Scan:
    """Goes through a text byte by byte until something is wrong. Brackets are kept on a stack, not in calls."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def value(self) -> None:
        """The first value with all that is in it."""
        open_brackets = bytearray()
        while True:
            started = self._begin_value(open_brackets)
            while not started:  # a value has ended: what holds it goes on, or ends as well
                if not open_brackets:
                    return
                started = self._after_value(open_brackets)

    # ----------------------------------------------------------------------- structure

    def _begin_value(self, open_brackets: bytearray) -> bool:
        """Take in the start of a value; False if it has ended with that."""
        first = self._peek(blanks=True)
        if first not in b"[{":
            self._scalar(first)
            return False
        open_brackets.append(first)
        if len(open_brackets) > MAX_DEPTH:
            self._refuse("exceeded max depth")
        self._at += 1
        if self._peek(blanks=True) == _CLOSING[first]:
            self._at += 1
            open_brackets.pop()
            return False
        if first == ord("{"):
            self._key()
        return True

    def _after_value(self, open_brackets: bytearray) -> bool:
        """Take in what follows a value inside of brackets; False if that ends the brackets."""
        opened = open_brackets[-1]
        in_object = opened == ord("{")
        byte = self._peek(blanks=True)
        if byte == _CLOSING[opened]:
            open_brackets.pop()
            self._at += 1
            return False
        self._expect(b",", "after object key:value pair" if in_object else "after array element")
        if in_object:
            self._key()
        return True

    def _key(self) -> None:
        if self._peek(blanks=True) != ord('"'):
            self._refuse(_KEY)
        self._string()
        self._peek(blanks=True)
        self._expect(b":", "after object key")

    # ------------------------------------------------------------------------- scalars

    def _scalar(self, first: int) -> None:
        if first == ord('"'):
            self._string()
        elif first in _LITERALS:
            self._literal(_LITERALS[first])
        elif first in b"-0123456789":
            self._number()
        else:
            self._refuse(_VALUE)

    def _string(self) -> None:
        self._at += 1
        while True:
            self._skip(_STRING_RUN)
            byte = self._peek()
            if byte == ord('"'):
                self._at += 1
                return
            if byte != ord("\\"):
                self._refuse("in string literal")
            self._at += 1
            self._escape()

    def _escape(self) -> None:
        if self._peek() != ord("u"):
            self._expect(_ESCAPES, "in string escape code")
            return
        self._at += 1
        for _ in range(4):
            self._expect(_HEX, "in \\u hexadecimal character escape")

    def _literal(self, word: str) -> None:
        for letter in word:
            self._expect(letter.encode(), f"in literal {word} (expecting '{letter}')")

    def _number(self) -> None:
        if self._peek() == ord("-"):
            self._at += 1
            if self._peek() not in b"0123456789":
                self._refuse("in numeric literal")
        if self._peek() == ord("0"):
            self._at += 1
        else:
            self._skip(_DIGITS)
        if self._peek() == ord("."):
            self._at += 1
            self._expect(b"0123456789", "after decimal point in numeric literal")
            self._skip(_DIGITS)
        if self._peek() in b"eE":
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            self._expect(b"0123456789", "in exponent of numeric literal")
            self._skip(_DIGITS)

    # --------------------------------------------------------------------------- bytes

    def _peek(self, *, blanks: bool = False) -> int:
        """The next byte, behind blanks if they may stand there."""
        if blanks:
            self._skip(_BLANK)
        if self._at >= len(self._raw):
            raise _Found("unexpected EOF" if self._raw.strip(b" \t\r\n") else "EOF")
        return self._raw[self._at]

    def _skip(self, pattern: re.Pattern[bytes]) -> None:
        match = pattern.match(self._raw, self._at)
        self._at = match.end() if match else self._at

    def _expect(self, allowed: bytes, place: str) -> None:
        if self._peek() not in allowed:
            self._refuse(place)
        self._at += 1

    def _refuse(self, place: str) -> None:
        raise _Found(f"invalid character {_quoted(self._raw[self._at])} {place}")


def _quoted(byte: int) -> str:
    """A byte as Go shows it: as the character of that number."""
    character = chr(byte)
    if character in _QUOTED:
        return f"'{_QUOTED[character]}'"
    if byte >= 0x80 and not character.isprintable():
        return f"'\\u{byte:04x}'"
    return repr(character)
