"""Calls that Conductor 3.32.3 has (its `/api-docs`) and this does not; each is answered by a 501 that names it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.http.conductor.requests import error

OPERATIONS = """
GET /admin/config getAllConfig
POST /admin/consistency/verifyAndRepair/{workflowId} verifyAndRepairWorkflowConsistency
GET /admin/queues getEventQueues
POST /admin/sweep/requeue/{workflowId} requeueSweep
GET /admin/task/{tasktype} view
GET /environment getAll
GET /environment/{key} get
GET /event getEventHandlers
POST /event addEventHandler
PUT /event updateEventHandler
GET /event/{event} getEventHandlersForEvent
DELETE /event/{name} removeEventHandlerStatus
GET /queue/ names
GET /queue/size size
POST /queue/update/{workflowId}/task/{taskId}/{status} updateByTaskId
POST /queue/update/{workflowId}/{taskRefName}/{status} update
GET /secrets listSecretNames
GET /tasks/external-storage-location getExternalStorageLocation
GET /tasks/externalstoragelocation getExternalStorageLocation
GET /tasks/search search
GET /tasks/search-v2 searchV2
POST /tasks/{workflowId}/{status}/signal signalWorkflowTaskAsync
POST /tasks/{workflowId}/{status}/signal/sync signalWorkflowTaskSync
POST /workflow/bulk/search searchWorkflow
GET /workflow/external-storage-location getExternalStorageLocation
GET /workflow/externalstoragelocation getExternalStorageLocation
GET /workflow/search search
GET /workflow/search-by-tasks searchWorkflowsByTasks
GET /workflow/search-by-tasks-v2 searchWorkflowsByTasksV2
GET /workflow/search-v2 searchV2
POST /workflow/test testWorkflow
"""


def unsupported_routes(root: str) -> Iterator[Route]:
    """The routes of these calls below `root`; they come before those with variables in their place."""
    for line in OPERATIONS.split("\n"):
        if line:
            method, path, operation = line.split(" ")
            yield Route(root + path, _refusal(operation), methods=[method])


def _refusal(operation: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        message = f"{operation} ({request.method} {request.url.path}) is not modelled; use a real Conductor"
        return error(501, message)

    return refuse
