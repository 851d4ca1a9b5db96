"""What is installed beside this code: optional packages, and the other project of the same name."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from perago.cli.boundary import CommandError
from perago.cli.exit_codes import ExitCode

_EMBEDDED = ("starlette", "uvicorn", "jinja2")


def require_embedded(command: str) -> None:
    """Make sure that services can be served over HTTP.

    Raises:
        CommandError: the extra `embedded` is not installed.
    """
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves Conductor and lakeFS over HTTP, but {' and '.join(missing)} cannot be found"
        raise CommandError(ExitCode.FAILURE, message, f"pip install {' '.join(missing)}")


def namesake() -> str:
    """What to say if the `perago` that is installed is the one of the package index, which is another project."""
    try:
        installed = distribution("perago")
    except PackageNotFoundError:
        return ""
    if any(point.group == "pytest11" for point in installed.entry_points):
        return ""
    return (
        f"the perago {installed.version} that is installed here is another project of the same name; the code that "
        f"runs is in {Path(__file__).parents[1]}\n"
        "  fix: pip uninstall perago, and install this one again (README.md, Install)"
    )
