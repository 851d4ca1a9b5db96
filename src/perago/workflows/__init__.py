"""Workflows in Python: typed steps, wired and checked before anything is sent to Conductor."""

from perago.workflows.definition import Workflow, WorkflowDefinitionError, workflow
from perago.workflows.flow import Flow, Loop, Switch
from perago.workflows.values import Step

__all__ = ["Flow", "Loop", "Step", "Switch", "Workflow", "WorkflowDefinitionError", "workflow"]
