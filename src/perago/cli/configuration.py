"""The local configuration, looked at from all sides before anything is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.settings import Problem, Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, unless they are not valid, with everything that is wrong or looks like a mistake."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def look_at_configuration() -> Configuration:
    """Read the environment and `.env` and dry-run the roots; nothing is created, nobody is spoken to."""
    from perago.settings import ConfigurationError, check_roots, load_settings

    try:
        settings = load_settings()
    except ConfigurationError as error:
        return Configuration(None, error.details)
    return Configuration(settings, check_roots(settings), settings.warnings)


def look_at_services(configuration: Configuration, *, lakefs: bool) -> tuple[Problem, ...]:
    """What is missing to reach Conductor and, if asked, to publish to lakeFS as it was configured."""
    from perago.settings import ConfigurationError

    settings = configuration.settings
    if settings is None:
        return ()
    problems: list[Problem] = []
    for require in (settings.require_conductor, *([settings.require_lakefs] if lakefs else [])):
        try:
            require()
        except ConfigurationError as error:
            problems += error.details
    return tuple(problems)
