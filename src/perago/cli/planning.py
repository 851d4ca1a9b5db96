"""What every worker takes from the settings, wherever its services are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.driver import Limits
    from perago.settings import Settings
    from perago.worker import LogPlan


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
