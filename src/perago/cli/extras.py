"""What is installed beyond the essential."""

from __future__ import annotations

from importlib.util import find_spec

from perago.cli.boundary import Failure
from perago.cli.exit_codes import ExitCode

_EMBEDDED = ("starlette", "uvicorn", "jinja2")


def require_embedded(command: str) -> None:
    """Make sure that services can be served over HTTP.

    Raises:
        Failure: the extra `embedded` is not installed.
    """
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves Conductor and lakeFS over HTTP, but {' and '.join(missing)} cannot be found"
        raise Failure(ExitCode.FAILURE, message, "pip install 'perago[embedded]'")
