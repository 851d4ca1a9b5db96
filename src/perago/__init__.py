"""perago: a typed runtime for Conductor workers on versioned lakeFS workspaces.

This is what a task module imports; `docs/` and docs/design/contract.md 2 describe it. The rest of the package is
imported where it is needed: `perago.testing` by tests, `perago.cli` by the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.authoring import *  # noqa: F403
    from perago.guardrails import *  # noqa: F403

__version__ = "0.1.0"

NOT_ON_WINDOWS = (
    "perago needs Linux or macOS: its workers rely on processes, signals and files as POSIX has them. "
    "On Windows, use it in WSL 2 or in a container."
)
"""What the command and the pytest plugin say on Windows, where nothing of perago works."""


def __getattr__(name: str) -> object:
    """Load a name when it is asked for: `perago --help` and shell completion need none of them.

    The names, and `__all__`, are those of `perago.authoring` and the guardrails that `perago.guardrails` registers.
    """
    if name == "__all__" or not (name.startswith("_") or _is_room(name)):
        public = _public_names()
        if name in public:
            globals().update(public)
            return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public_names()})


def _is_room(name: str) -> bool:
    """Whether `from perago import cli` asks: Python imports it after an AttributeError."""
    from importlib.util import find_spec

    return find_spec(f"{__name__}.{name}") is not None


def _public_names() -> dict[str, object]:
    from importlib import import_module

    authoring = import_module("perago.authoring")
    public = {name: getattr(authoring, name) for name in authoring.__all__}
    public |= import_module("perago.guardrails").GUARDRAILS
    return {**public, "__all__": sorted([*public, "__version__"])}
