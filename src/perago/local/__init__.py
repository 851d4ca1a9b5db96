"""Real workers on in-memory services: what `perago run` and `perago demo` stand on.

The lakeFS and the Conductor are models in this process; supervisor and slot processes are those of production.
"""

from perago.local.services import LocalServices
from perago.local.workers import LocalTask, RunFailed, run_workflow, workflow_of, workspace_at

__all__ = ["LocalServices", "LocalTask", "RunFailed", "run_workflow", "workflow_of", "workspace_at"]
