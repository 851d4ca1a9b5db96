"""The key pair of an embedded lakeFS, and the token of the services beside it."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What lakeFS lets in."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def token(self) -> str:
        """What the embedded Conductor and the page let in: 32 hex digits that do not give the secret away."""
        return hmac.digest(self.secret_access_key.encode(), b"token", "sha256").hex()[:32]

    @property
    def basic(self) -> bytes:
        """As HTTP Basic writes it."""
        return f"{self.access_key_id}:{self.secret_access_key}".encode()

    @property
    def login_token(self) -> str:
        """What a login at lakeFS gives; it does not give the secret away, and does not expire."""
        return hmac.digest(self.secret_access_key.encode(), b"login", "sha256").hex()

    @classmethod
    def random(cls) -> KeyPair:
        """A fresh one."""
        return cls(f"perago{secrets.token_hex(7)}", secrets.token_urlsafe(30))
