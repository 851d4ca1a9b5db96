"""Names that belong to secrets: of fields, of parameters in addresses, and of variables of the environment.

`perago capture` redacts values with these names. Task functions do not get the withheld variables, and logs, task logs
and reasons do not contain their values.
"""

from __future__ import annotations

import functools
import itertools
import re
from fnmatch import fnmatchcase

WITHHELD = ("CONDUCTOR_*", "LAKECTL_*", "OTEL_EXPORTER_OTLP_*HEADERS", "OPENLINEAGE_API_KEY", "OPENLINEAGE__*")
"""Patterns for the variables that a task function does not get. perago itself needs them, and they hold credentials."""

_KEYS = (
    *("access", "account", "api", "auth", "deploy", "encryption", "gpg", "hmac", "license", "master", "pgp", "private"),
    *("rsa", "secret", "service", "session", "shared", "signing", "ssh", "ssl", "storage", "subscription", "tls"),
    *("aes", "anthropic", "aws", "azure", "cipher", "cohere", "datadog", "decryption", "fernet", "gemini", "google"),
    *("groq", "huggingface", "mailgun", "mistral", "openai", "sendgrid", "stripe", "twilio", "webhook"),
)
_PASSES = (
    *("admin", "db", "email", "ftp", "git", "imap", "key", "keystore", "ldap", "login", "mail", "mysql", "pg", "proxy"),
    *("redis", "root", "smtp", "ssh", "sudo", "truststore", "user"),
)
_PAIRS = frozenset(
    {
        *((kind, "key") for kind in _KEYS),
        *((kind, "pass") for kind in _PASSES),
        *((kind, "pat") for kind in ("ado", "azure", "devops", "gh", "github", "gitlab")),
        *(("connection", "string"), ("session", "id")),
    }
)
_WORDS = frozenset({"auth", "authorization", "bearer", "cred", "creds", "csrf", "dsn", "jwt", "oauth", "otp"})
_LAST_WORDS = frozenset({"pem", "pw", "sas"})
_NAMES = frozenset({"clientkeydata", "motdepasse", "pass", "pat"})
"""Words that mean a secret only as full names: `pass_count` and `path_pat` are not."""
_CERTAIN = ("contrasena", "kennwort", "passcode", "passphrase", "passwd", "password", "passwort", "pwd", "wachtwoord")
_ENDS = (
    *("cookie", "credential", *_CERTAIN, "secret", "sessid", "token"),
    *("".join(pair) for pair in sorted(_PAIRS)),
)
"""Endings of compound words without a separator: `PGPASSWORD`, `authtoken`, `signingkey`."""
_MEASURES = frozenset({"count", "counts", "length", "limit", "size", "time", "total", "ttl", "type"})
"""Last words of names that describe a secret: `token_count`."""
_PLURALS = frozenset({"cookies", "credentials", "passphrases", "passwords", "secrets"})
"""Plurals that name secrets. `tokens` is not one of them, because it usually means words or their number."""
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SIGNED = re.compile(r"x-(amz|goog)-.*|sig", re.IGNORECASE)
"""Parameters of signed addresses."""


@functools.lru_cache(maxsize=1000)
def is_withheld(variable: str) -> bool:
    """Whether a task function does not get this variable unless its task asks for it."""
    return any(fnmatchcase(variable, pattern) for pattern in WITHHELD)


def looks_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `dbPassword`, `api-key`, `PGPASSWORD`; not `tokenizer`."""
    parts = [word.lower() for word in _PARTS.findall(name)]
    if not parts or parts[-1] in _MEASURES:
        return False
    return (
        _SIGNED.fullmatch(name) is not None
        or "".join(parts) in _NAMES
        or parts[-1] in _LAST_WORDS
        or any(word in _WORDS | _PLURALS or word.endswith(_ENDS) for word in parts)
        or any(not _PAIRS.isdisjoint({(a, b), (a, b.removesuffix("s"))}) for a, b in itertools.pairwise(parts))
    )


def is_password(name: str) -> bool:
    """Whether a field of this name holds a password, also if it is a number: `db_password`, not `token` or `pin`."""
    return name.lower().endswith(_CERTAIN)


def looks_secret_in_address(name: str) -> bool:
    """Whether a parameter of an address holds a secret: `access_token`, `sig`, `Signature`."""
    return looks_secret(name) or name.lower() == "signature"
