"""What every worker takes from the settings, wherever its services are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.driver import Limits
    from perago.settings import Settings
    from perago.worker import LogPlan


def withhold_credentials() -> None:
    """From now on, no process that this one starts inherits a variable that is withheld from task functions."""
    from perago.authoring.environment import withheld
    from perago.settings import take_from_environment

    take_from_environment(withheld(os.environ))


def environment_of(task: TaskSummary) -> dict[str, str]:
    """The withheld variables that the task asks for."""
    from perago.authoring.environment import asked_for
    from perago.settings import whole_environment

    return asked_for(whole_environment(), task.environment)


def logs_of(settings: Settings) -> LogPlan:
    """Where and how its logs are written."""
    from perago.worker import LogPlan

    return LogPlan(root=settings.log_root, max_bytes=settings.log_file_max_size, retention_days=settings.log_retention)


def limits_of(settings: Settings) -> Limits:
    """What its attempts are allowed."""
    from perago.driver import Limits

    return Limits(
        max_result_bytes=settings.max_result_bytes,
        max_workspace_bytes=settings.max_workspace_bytes,
        publish_fence=settings.publish_fence,
        allowed_workspaces=settings.allowed_workspaces,
    )
