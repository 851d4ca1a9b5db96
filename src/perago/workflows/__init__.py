"""Workflows in Python: typed steps, wired and checked before anything is sent to Conductor."""

from perago.workflows.choices import Loop, Switch, When
from perago.workflows.definition import workflow
from perago.workflows.flow import Flow, Workflow, WorkflowDefinitionError
from perago.workflows.schedule import Cron
from perago.workflows.values import FailedWorkflow, Step

__all__ = [
    "Cron",
    "FailedWorkflow",
    "Flow",
    "Loop",
    "Step",
    "Switch",
    "When",
    "Workflow",
    "WorkflowDefinitionError",
    "workflow",
]
