"""Which names belong to secrets: of fields, of parameters in addresses, and of variables of the environment.

`perago capture` redacts by these names, task functions do not get the variables that are withheld, and logs, task logs
and reasons are without the values of those.
"""

from __future__ import annotations

import itertools
import re
from fnmatch import fnmatchcase

WITHHELD = ("CONDUCTOR_*", "LAKECTL_*", "OTEL_EXPORTER_OTLP_*HEADERS")
"""Patterns for the variables that a task function does not get. perago itself needs them, and they hold credentials."""

_KEYS = (
    *("access", "account", "api", "auth", "deploy", "encryption", "hmac", "license", "master", "private", "secret"),
    *("service", "session", "shared", "signing", "ssh", "storage", "subscription"),
)
_PASSES = ("admin", "db", "email", "ftp", "mail", "proxy", "redis", "root", "smtp", "user")
_PAIRS = frozenset(
    {*((kind, "key") for kind in _KEYS), *((kind, "pass") for kind in _PASSES), ("connection", "string")}
)
_WORDS = frozenset({"auth", "authorization", "bearer", "cred", "creds", "dsn", "jwt", "oauth", "otp"})
_ENDS = (
    *("cookie", "credential", "passcode", "passphrase", "passwd", "password", "pwd", "secret", "token"),
    *("".join(pair) for pair in sorted(_PAIRS)),
)
"""How a word ends that is written as one: `PGPASSWORD`, `authtoken`, `signingkey`."""
_PLURALS = frozenset({"cookies", "credentials", "passphrases", "passwords", "secrets"})
"""Not `tokens`, which are mostly words or their number."""
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SIGNED = re.compile(r"x-(amz|goog)-.*|sig", re.IGNORECASE)
"""Parameters of signed addresses."""


def is_withheld(variable: str) -> bool:
    """Whether a task function does not get this variable unless its task asks for it."""
    return any(fnmatchcase(variable, pattern) for pattern in WITHHELD)


def looks_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `dbPassword`, `api-key`, `PGPASSWORD`; not `tokenizer`."""
    words = [word.lower() for word in _PARTS.findall(name)]
    return (
        _SIGNED.fullmatch(name) is not None
        or any(word in _WORDS | _PLURALS or word.endswith(_ENDS) for word in words)
        or any(not _PAIRS.isdisjoint({(a, b), (a, b.removesuffix("s"))}) for a, b in itertools.pairwise(words))
    )


def looks_secret_in_address(name: str) -> bool:
    """Whether a parameter of an address holds a secret: `access_token`, `sig`, `Signature`."""
    return looks_secret(name) or name.lower() == "signature"
