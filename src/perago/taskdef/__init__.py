"""From a task module to its TaskDef, and from Conductor's payloads to validated values (contracts 3 and 4)."""

from perago.taskdef.compare import ABSENT, Difference, compare_definitions
from perago.taskdef.definition import build_task_definition, canonical_json
from perago.taskdef.loading import load_task

__all__ = [
    "ABSENT",
    "Difference",
    "build_task_definition",
    "canonical_json",
    "compare_definitions",
    "load_task",
]
