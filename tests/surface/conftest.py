"""The project of `tests/cli`."""

from __future__ import annotations

from ..cli.conftest import project

__all__ = ["project"]
