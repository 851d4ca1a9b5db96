"""The key pair of an embedded lakeFS."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What lakeFS lets in."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @classmethod
    def random(cls) -> KeyPair:
        """One that nobody has."""
        return cls(f"perago{secrets.token_hex(7)}", secrets.token_urlsafe(30))
