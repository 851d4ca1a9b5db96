"""Every variable with the value that it has now, and where that comes from; for people."""

from __future__ import annotations

from dataclasses import dataclass

from perago.secret_names import looks_secret
from perago.settings.roots import LOG_ROOT, WORKSPACE_ROOT
from perago.settings.sources import configured_mask, read_sources
from perago.settings.values import Settings
from perago.settings.variables import VARIABLES

_DEFAULTS = {
    "PERAGO_LOG_FILE_MAX_SIZE": "100MB",
    "PERAGO_LOG_RETENTION": "30d",
    "PERAGO_LOG_FORMAT": "no log on standard error",
    "PERAGO_LOG_FILES": "on",
    "PERAGO_WORKER_ID_PREFIX": "from the module's name",
    "PERAGO_PUBLISH_FENCE": "auto",
    "PERAGO_SHUTDOWN_GRACE": "30s",
    "PERAGO_TRANSFER_THREADS": "16",
    "PERAGO_MAX_RESULT_BYTES": "1MiB",
    "PERAGO_MAX_WORKSPACE_BYTES": "no limit",
    "PERAGO_MAX_WORKSPACE_OBJECTS": "10,000,000",
    "PERAGO_CACHE_MAX_BYTES": "a tenth of the free space",
    "PERAGO_ALLOWED_WORKSPACES": "all",
    "PERAGO_MAINTENANCE": "all",
}
"""As docs/configuration.md words them. What is not here is not set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`value` is as it was written, with secrets struck out, or the default in words; None: a credential that is
    set."""

    name: str
    value: str | None
    source: str
    """`environment`, `.env:4`, `default`, or empty for what is not set."""


def settings_in_effect(settings: Settings) -> tuple[Setting, ...]:
    """All variables that perago knows, in the order of docs/configuration.md. `settings` are the valid ones of now."""
    sources, mask = read_sources(), configured_mask()
    roots = {WORKSPACE_ROOT: str(settings.workspace_root), LOG_ROOT: str(settings.log_root)}
    found = []
    for name in VARIABLES:
        source = sources.origin(name)
        if not source:
            default = roots.get(name) or _DEFAULTS.get(name)
            found.append(Setting(name, default or "not set", "default" if default else ""))
        elif looks_secret(name):
            found.append(Setting(name, None, source))
        else:
            found.append(Setting(name, mask(sources.values[name]), source))
    return tuple(found)
