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

    @classmethod
    def random(cls) -> KeyPair:
        """One that nobody has."""
        return cls(f"perago{secrets.token_hex(7)}", secrets.token_urlsafe(30))
