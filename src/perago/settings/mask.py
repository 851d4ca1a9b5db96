"""Striking out the values of secrets in text that others wrote: one function for terminals, logs and reasons."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from perago.secret_names import looks_secret_in_address

STRUCK_OUT = "***"

_SHORTEST = 4
"""Characters of a secret, or of what is struck out of one: anything shorter would strike out words."""
_TOKEN = 16
"""Characters from which a part of an address's path counts as a token, if there is a digit among them: names such as
`conductor-service` are struck out of nothing. The token of `perago dev` has 32, all hexadecimal."""
_USER = re.compile(r"(://)([^/\s]+)(?=@)")
_ASSIGNED = re.compile(r"""([A-Za-z][\w.-]*)=("[^"]+"|'[^']+'|[^&#;,\s"'<>]+)""")
"""A parameter of an address or of a connection: `?sig=...`, `host=db password=...`."""


class Mask:
    """Strikes secrets out, as they are and as they are often written: with quotes or backslashes escaped, URL-quoted,
    and in base64, also as part of something longer (`user:secret`). Safe for threads, picklable."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self.longest = max((len(form.encode("utf-8", "surrogatepass")) for form in forms), default=0)
        """UTF-8 bytes of the longest form: text that is cut must overlap by as many."""

    def __call__(self, text: str) -> str:
        """`text` without the secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, STRUCK_OUT)
        return text

    def finds(self, content: bytes) -> bool:
        """Whether the bytes of a file hold one of the secrets."""
        return any(form.encode("utf-8", "surrogatepass") in content for form in self._forms)

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
    return [password, *filter(may_be_token, path.split("/")), *strike_out_parameters(address)[1]]


def may_be_token(part: str, shortest: int = _TOKEN) -> bool:
    """Whether a word may be a token, not a name."""
    return len(part) >= shortest and any(character.isdigit() for character in part)


def strike_out_parameters(text: str) -> tuple[str, list[str]]:
    """Return `text` without the passwords and secret parameters of the addresses in it, and these secrets."""
    found: list[str] = []

    def without(secret: str) -> str:
        if secret.strip("\"'") in ("", STRUCK_OUT):
            return secret
        found.append(secret.strip("\"'"))
        return STRUCK_OUT

    def login(match: re.Match[str]) -> str:
        user, colon, password = match[2].partition(":")
        if colon:
            return f"{match[1]}{user}:{without(password)}"
        return match[1] + (without(user) if may_be_token(user) else user)

    def assigned(match: re.Match[str]) -> str:
        return f"{match[1]}={without(match[2])}" if looks_secret_in_address(match[1]) else match[0]

    return _ASSIGNED.sub(assigned, _USER.sub(login, text)), found


def shown_address(address: str) -> str:
    """`address` for people: without secrets."""
    return Mask(secrets_in(address))(address)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    content = secret.encode("utf-8", "surrogatepass")
    for quoted in (quote(content, safe=""), quote(content), quote_plus(content), quote_plus(content, safe="/")):
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    for shift in range(3):
        standard = _base64_core(content, shift)
        if len(standard) >= _SHORTEST:
            yield standard
            yield standard.translate(str.maketrans("+/", "-_"))


def _base64_core(secret: bytes, shift: int) -> str:
    """What base64 makes of `secret` after so many other bytes (modulo 3), as far as it does not depend on what stands
    before and after it."""
    text = base64.b64encode(bytes(shift) + secret).decode().rstrip("=")
    depends_on_next = (shift + len(secret)) % 3 != 0
    return text[(0, 2, 3)[shift] : len(text) - depends_on_next]
