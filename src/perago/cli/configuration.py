"""The configuration for a command that is about to work: settings that are valid, or an error that says why not."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.configuration import Configuration, read_configuration

if TYPE_CHECKING:
    from perago.settings import LogFormat, Settings


def with_log_format(configuration: Configuration, given: LogFormat | None) -> Configuration:
    """The configuration of a worker that logs to standard error in the format that was `given`, or else configured;
    from now on messages do so, too."""
    from perago.settings import Problem

    settings = configuration.settings
    form = given or (settings.log_format if settings else None)
    if form is not None:
        messages.write_as(form)
    if settings is None:
        return configuration
    problems = configuration.problems
    if form is None and not settings.log_files:
        fix = "Set PERAGO_LOG_FORMAT=json, or leave PERAGO_LOG_FILES on."
        problems += (
            Problem("PERAGO_LOG_FILES", "", "off, and PERAGO_LOG_FORMAT is not set: there would be no log", fix),
        )
    return replace(configuration, settings=settings.model_copy(update={"log_format": form}), problems=problems)


def valid_settings() -> Settings:
    """The configuration, with its roots made; processes that start from now on do not inherit its credentials.

    Raises:
        CommandError: it is not valid, and everything that is wrong has been said.
    """
    from perago.settings import prepare_roots

    configuration = read_configuration()
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.settings is None or configuration.problems:
        messages.configuration_errors(configuration.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    prepare_roots(configuration.settings)
    withhold_credentials()
    return configuration.settings


def withhold_credentials() -> None:
    """From now on, no process that this one starts inherits a variable that is withheld from task functions."""
    from perago.authoring.task import withheld
    from perago.settings import take_from_environment

    take_from_environment(withheld(os.environ))
