"""Striking out the values of secrets in text that others wrote: one function for terminals, logs and reasons."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

STRUCK_OUT = "***"

_SHORTEST = 4
"""Characters of a secret, or of what is struck out of one: anything shorter would strike out words."""
_TOKEN = 16
"""Characters from which a part of an address's path counts as a token, if there is a digit among them: names such as
`conductor-service` are struck out of nothing. The token of `perago dev` has 32, all hexadecimal."""


class Mask:
    """Strikes secrets out, as they are and as they are often written: with quotes or backslashes escaped, URL-quoted,
    and in base64, also as part of something longer (`user:secret`). Safe for threads, picklable."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self.longest = max((len(form.encode()) for form in forms), default=0)
        """UTF-8 bytes of the longest form: text that is cut must overlap by as many."""

    def __call__(self, text: str) -> str:
        """`text` without the secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, STRUCK_OUT)
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._forms == other._forms

    def __hash__(self) -> int:
        return hash(self._forms)

    def __repr__(self) -> str:
        return f"Mask({len(self._forms)} forms)"


def secrets_in(address: str) -> list[str]:
    """What a server's address may hold that opens the server: a password, and tokens in its path, such as that of
    `perago dev`. The address need not be valid."""
    host, _, path = address.partition("://")[2].partition("/")
    password = host.rpartition("@")[0].partition(":")[2]
    return [password, *filter(_may_be_token, path.split("/"))]


def _may_be_token(part: str) -> bool:
    return len(part) >= _TOKEN and any(character.isdigit() for character in part)


def shown_address(address: str) -> str:
    """`address` for people: without secrets."""
    return Mask(secrets_in(address))(address)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret), quote_plus(secret, safe="/")):
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    for shift in range(3):
        standard = _base64_core(secret.encode(), shift)
        if len(standard) >= _SHORTEST:
            yield standard
            yield standard.translate(str.maketrans("+/", "-_"))


def _base64_core(secret: bytes, shift: int) -> str:
    """What base64 makes of `secret` after so many other bytes (modulo 3), as far as it does not depend on what stands
    before and after it."""
    text = base64.b64encode(bytes(shift) + secret).decode().rstrip("=")
    depends_on_next = (shift + len(secret)) % 3 != 0
    return text[(0, 2, 3)[shift] : len(text) - depends_on_next]
