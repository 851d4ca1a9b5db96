"""The bodies that Conductor's methods take, with the Java signatures that it prints when one is missing."""

from __future__ import annotations

from perago.embedded.conductor.jackson import (
    OBJECT_MAP,
    TASK_DEF,
    TASK_RESULT,
    TEXT_LIST,
    WORKFLOW_DEF,
    list_of,
)
from perago.embedded.http.conductor.call import Body

START_REQUEST = "com.netflix.conductor.common.metadata.workflow.StartWorkflowRequest"
RERUN_REQUEST = "com.netflix.conductor.common.metadata.workflow.RerunWorkflowRequest"
RESULT_STATUS = f"{TASK_RESULT}$Status"

_REST = "com.netflix.conductor.rest.controllers"
_TEXT = "java.lang.String"
_MAP = "java.util.Map<java.lang.String, java.lang.Object>"
_TEXTS = "java.util.List<java.lang.String>"
_BULK = "com.netflix.conductor.common.model.BulkResponse<java.lang.String>"
_WORKFLOW = "com.netflix.conductor.common.run.Workflow"
_TASK = "org.springframework.http.ResponseEntity<com.netflix.conductor.common.metadata.tasks.Task>"


def _body(java: str, returns: str, method: str, *parameters: str) -> Body:
    return Body(java, f"public {returns} {_REST}.{method}({','.join(parameters)})")


TASK_DEFINITIONS = _body(list_of(TASK_DEF), "void", "MetadataResource.registerTaskDef", f"java.util.List<{TASK_DEF}>")
TASK_DEFINITION = _body(TASK_DEF, "void", "MetadataResource.registerTaskDef", TASK_DEF)
WORKFLOW_DEFINITION = _body(WORKFLOW_DEF, "void", "MetadataResource.create", WORKFLOW_DEF, "boolean")
VALIDATED_DEFINITION = _body(WORKFLOW_DEF, "void", "MetadataResource.validate", WORKFLOW_DEF)
WORKFLOW_DEFINITIONS = _body(list_of(WORKFLOW_DEF), _BULK, "MetadataResource.update", f"java.util.List<{WORKFLOW_DEF}>")

RESULT = _body(TASK_RESULT, _TEXT, "TaskResource.updateTask", TASK_RESULT)
RESULT_V2 = _body(TASK_RESULT, _TASK, "TaskResource.updateTaskV2", TASK_RESULT)
OUTPUT = _body(OBJECT_MAP, _TEXT, "TaskResource.updateTask", _TEXT, _TEXT, RESULT_STATUS, _TEXT, _MAP)
OUTPUT_SYNC = _body(OBJECT_MAP, _WORKFLOW, "TaskResource.updateTaskSync", _TEXT, _TEXT, RESULT_STATUS, _TEXT, _MAP)
LOG = f"public void {_REST}.TaskResource.log({_TEXT},{_TEXT})"

START = _body(START_REQUEST, _TEXT, "WorkflowResource.startWorkflow", START_REQUEST)
START_INPUT = _body(OBJECT_MAP, _TEXT, "WorkflowResource.startWorkflow", _TEXT, "java.lang.Integer", _TEXT, "int", _MAP)
RERUN = _body(RERUN_REQUEST, _TEXT, "WorkflowResource.rerun", _TEXT, RERUN_REQUEST)
EXECUTE = _body(
    START_REQUEST,
    "reactor.core.publisher.Mono<org.conductoross.conductor.model.SignalResponse>",
    "WorkflowResource.executeWorkflow",
    _TEXT,
    "java.lang.Integer",
    _TEXT,
    _TEXT,
    "java.lang.Integer",
    _TEXT,
    "org.conductoross.conductor.model.WorkflowSignalReturnStrategy",
    START_REQUEST,
)
CORRELATION_IDS = _body(
    TEXT_LIST,
    f"java.util.Map<java.lang.String, java.util.List<{_WORKFLOW}>>",
    "WorkflowResource.getWorkflows",
    _TEXT,
    "boolean",
    "boolean",
    _TEXTS,
)


def bulk(method: str, *further: str) -> Body:
    """The list of workflow ids of a bulk call, and the types of its `further` parameters."""
    return _body(TEXT_LIST, _BULK, f"WorkflowBulkResource.{method}", _TEXTS, *further)
