"""The project and the forked commands of `tests/cli`."""

from __future__ import annotations

from ..cli.conftest import forks, project

__all__ = ["forks", "project"]
