"""From a task module to its TaskDef, and from Conductor's payloads to validated values."""

from perago.taskdef.definition import ABSENT, Difference, build_task_definition, canonical_json, compare_definitions
from perago.taskdef.loading import load_task

__all__ = ["ABSENT", "Difference", "build_task_definition", "canonical_json", "compare_definitions", "load_task"]
