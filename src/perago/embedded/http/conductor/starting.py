"""The request that starts a workflow, as the body of two calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from perago.embedded.conductor.coercion import FieldReader
from perago.embedded.conductor.errors import bad_request, not_found, validation_failed
from perago.embedded.conductor.jackson import TEXT_MAP, WORKFLOW_DEF
from perago.embedded.conductor.lifecycle import MAX_PRIORITY
from perago.embedded.conductor.model import ConductorModel
from perago.ports import NotFound

OPERATION = "start workflow"


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A read `StartWorkflowRequest`; an idempotency key is taken and passed over, as by the real server."""

    name: str | None
    version: int | None
    correlation_id: str | None
    priority: int
    payload: Mapping[str, Any] | None
    """None for an explicit null."""
    definition: Mapping[str, Any] | None
    task_to_domain: Mapping[str, str]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> StartRequest:
        """The request in a body.

        Raises:
            Malformed: a field of the wrong type (500).
        """
        read = FieldReader(OPERATION, body)
        payload = read.mapping("input")
        return cls(
            name=read.text("name"),
            version=read.optional_integer("version"),
            correlation_id=read.text("correlationId"),
            priority=read.optional_integer("priority") or 0,
            payload=None if "input" in body and body["input"] is None else payload,
            definition=read.bean("workflowDef", of=WORKFLOW_DEF),
            task_to_domain=read.text_mapping("taskToDomain", of=TEXT_MAP),
        )

    def named(self, name: str, version: int | None) -> StartRequest:
        """The same for another workflow."""
        return replace(self, name=name, version=version)

    def start(self, model: ConductorModel) -> str:
        """Start it; the id of the workflow.

        Raises:
            InvalidRequest: no name, a priority out of range, or null as the input (400).
            NoSuchEntity: no such definition (404).
        """
        problems = list(self._problems())
        if problems:
            raise validation_failed(OPERATION, problems)
        if self.payload is None:
            self._refuse_null(model)
        return model.start_workflow(
            self.name or "",
            self.payload,
            version=self.version,
            correlation_id=self.correlation_id,
            priority=self.priority,
            definition=self.definition,
            task_to_domain=self.task_to_domain,
        )

    def _problems(self) -> Iterator[dict[str, str]]:
        if not self.name:
            problem = {"path": "startWorkflow.arg0.name", "message": "Workflow name cannot be null or empty"}
            yield problem if self.name is None else {**problem, "invalidValue": self.name}
        if not 0 <= self.priority <= MAX_PRIORITY:
            limit = "minimum 0" if self.priority < 0 else f"maximum {MAX_PRIORITY}"
            message = f"priority: {self.priority} should be {limit}"
            yield {"path": "startWorkflow.arg0.priority", "message": message, "invalidValue": str(self.priority)}

    def _refuse_null(self, model: ConductorModel) -> None:
        """An unknown definition is noticed first."""
        if self.definition is None:
            try:
                model.get_workflow_definition(self.name or "", self.version)
            except NotFound:
                shown = "null" if self.version is None else self.version
                detail = f"No such workflow defined. name={self.name}, version={shown}"
                raise not_found(OPERATION, detail) from None
        raise bad_request(OPERATION, "NULL input passed when starting workflow")


def refuse_priority_in_path(priority: int) -> None:
    """A priority that is given beside the body has words of its own.

    Raises:
        InvalidRequest: it is out of range (400).
    """
    if 0 <= priority <= MAX_PRIORITY:
        return
    limit = "0 is the minimum" if priority < 0 else f"{MAX_PRIORITY} is the maximum"
    problem = {"path": "startWorkflow.arg3", "message": f"{limit} priority value", "invalidValue": str(priority)}
    raise validation_failed(OPERATION, [problem])
