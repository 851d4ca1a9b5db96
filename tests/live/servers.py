"""Where the real servers of the live tests are."""

from __future__ import annotations

import os

import pytest

LAKEFS = ("LAKECTL_SERVER_ENDPOINT_URL", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")
CONDUCTOR = ("CONDUCTOR_SERVER_URL",)


def variables(names: tuple[str, ...]) -> list[str]:
    """Their values; skips the test if one is missing."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.skip(f"needs a real server: {', '.join(missing)} not set")
    return [os.environ[name] for name in names]
