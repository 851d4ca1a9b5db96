"""`perago retry`."""

from __future__ import annotations

from perago.cli.parameters import Json
from perago.cli.workflow_operations import WorkflowId, print_operation

EXAMPLES = """\b
Steps that completed keep their results. Failed and canceled steps get new
attempts with new ids.

\b
Examples:
  perago retry 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11
  perago list --status failed                                  finds the id
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11       every step again"""


def command(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Run the failed steps of a workflow again.

    The workflow must have ended. perago refuses a retry that Conductor cannot carry out, and names a working command.
    """
    from perago.history.operations import operated, retry

    with operated() as workflows:
        print_operation(retry(workflows, workflow_id), as_json=as_json)
