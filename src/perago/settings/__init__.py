"""The configuration: reads variables, and returns one frozen `Settings` or all problems together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perago.settings.mask import Mask
from perago.settings.sources import (
    ALL_UPKEEP,
    ConductorSettings,
    ConfigurationError,
    LakeFSSettings,
    LogFormat,
    Problem,
    PublishFence,
    Upkeep,
    check_roots,
    configured_mask,
    default_worker_id_prefix,
    mask_secrets,
    prepare_roots,
    state_directory,
    take_from_environment,
    whole_environment,
)

if TYPE_CHECKING:
    from perago.settings.variables import Settings

__all__ = [
    "ALL_UPKEEP",
    "ConductorSettings",
    "ConfigurationError",
    "LakeFSSettings",
    "LogFormat",
    "Mask",
    "Problem",
    "PublishFence",
    "Settings",
    "Upkeep",
    "check_roots",
    "configured_mask",
    "default_worker_id_prefix",
    "load_settings",
    "mask_secrets",
    "prepare_roots",
    "state_directory",
    "take_from_environment",
    "whole_environment",
]


def load_settings(*, local: bool = False) -> Settings:
    """Return the configuration from the process environment and `.env` in the current directory. The environment wins.

    It connects to no server and creates no file.

    Args:
        local: for a command on embedded services, which needs only some of the variables. Other invalid variables are
            ignored. A warning names each invalid `PERAGO_` variable.

    Raises:
        ConfigurationError: with all problems, each naming its variable and where it was set.
    """
    from perago.settings.variables import load  # pydantic-settings costs more than all the rest of the package

    return load(local=local)


def __getattr__(name: str) -> Any:
    """Import `Settings` when it is first needed, because pydantic-settings is slow to import."""
    if name != "Settings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from perago.settings.variables import Settings

    return Settings
