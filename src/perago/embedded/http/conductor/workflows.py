"""Requests about single workflows: start, look, and what can be done to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.coercion import FieldReader
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints
from perago.embedded.http.conductor.starting import StartRequest, refuse_priority_in_path


class WorkflowRequests:
    """What is below `/workflow`, but for bulk calls."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`; the more specific ones first."""
        one = f"{root}/{{workflow}}"
        return [
            endpoints.route("POST", root, self.start),
            endpoints.route("PUT", f"{root}/decide/{{workflow}}", self.decide),
            endpoints.route("GET", one, self.get),
            endpoints.route("POST", one, self.start_by_name),
            endpoints.route("DELETE", one, self.terminate),
            endpoints.route("GET", f"{one}/status", self.status),
            endpoints.route("GET", f"{one}/tasks", self.tasks),
            endpoints.route("PUT", f"{one}/skiptask/{{reference}}", self.skip),
            endpoints.route("PUT", f"{one}/pause", self.pause),
            endpoints.route("PUT", f"{one}/resume", self.resume),
            endpoints.route("POST", f"{one}/retry", self.retry),
            endpoints.route("POST", f"{one}/restart", self.restart),
            endpoints.route("POST", f"{one}/rerun", self.rerun),
            endpoints.route("POST", f"{one}/resetcallbacks", self.reset_callbacks),
            endpoints.route("DELETE", f"{one}/remove", self.remove),
            endpoints.route("DELETE", f"{one}/terminate-remove", self.terminate_and_remove),
        ]

    # -------------------------------------------------------------------- starts

    def start(self, call: Call) -> Response:
        """Start by a request that names everything; the id of the workflow."""
        return answers.text(StartRequest.of(call.bean(bodies.START)).start(self._model))

    def start_by_name(self, call: Call) -> Response:
        """Start with the body as the input; the id of the workflow."""
        version, correlation_id = call.optional_integer("version"), call.text("correlationId")
        priority = call.integer("priority", 0)
        payload = call.mapping(bodies.START_INPUT)
        refuse_priority_in_path(priority)
        found = self._model.get_workflow_definition(call.parts["workflow"], version)
        workflow_id = self._model.start_workflow(
            found["name"], payload, version=found["version"], correlation_id=correlation_id, priority=priority
        )
        return answers.text(workflow_id)

    # --------------------------------------------------------------------- looks

    def get(self, call: Call) -> Response:
        """The workflow and, unless it is told otherwise, its attempts."""
        include_tasks = call.flag("includeTasks", default=True)
        return answers.JsonAnswer(self._model.workflow(call.parts["workflow"], include_tasks=include_tasks))

    def status(self, call: Call) -> Response:
        """The workflow in few words."""
        fields = ["workflowId", "correlationId"]
        fields += ["output"] if call.flag("includeOutput", default=False) else []
        fields += ["variables"] if call.flag("includeVariables", default=False) else []
        workflow = self._model.workflow(call.parts["workflow"], include_tasks=False)
        return answers.JsonAnswer({field: workflow[field] for field in [*fields, "status"] if field in workflow})

    def tasks(self, call: Call) -> Response:
        """One page of the attempts, of some statuses if they are named."""
        start, count = call.integer("start", 0), call.integer("count", 15)
        statuses = call.texts("status") or []
        rows = self._model.workflow(call.parts["workflow"])["tasks"]
        found = [row for row in rows if not statuses or row["status"] in statuses]
        return answers.JsonAnswer({"totalHits": len(found), "results": found[start : start + count]})

    # ------------------------------------------------------------------- actions

    def decide(self, call: Call) -> Response:
        """Evaluate it now."""
        return self._acted(call, self._model.decide)

    def pause(self, call: Call) -> Response:
        """Stop scheduling."""
        return self._acted(call, self._model.pause_workflow)

    def resume(self, call: Call) -> Response:
        """Go on."""
        return self._acted(call, self._model.resume_workflow)

    def remove(self, call: Call) -> Response:
        """Forget it."""
        return self._acted(call, self._model.remove_workflow)

    def skip(self, call: Call) -> Response:
        """Leave out a step. Input and output for it, which clients send in the body, are not looked at."""
        self._model.skip_task(call.parts["workflow"], call.parts["reference"])
        return answers.done()

    def terminate(self, call: Call) -> Response:
        """End it."""
        self._model.terminate_workflow(call.parts["workflow"], call.text("reason"))
        return answers.done()

    def terminate_and_remove(self, call: Call) -> Response:
        """End it and forget it."""
        self._model.terminate_workflow(call.parts["workflow"], call.text("reason"))
        return self.remove(call)

    def retry(self, call: Call) -> Response:
        """One more attempt for what failed."""
        resumes = call.flag("resumeSubworkflowTasks", default=False)
        self._model.retry_workflow(call.parts["workflow"], resume_sub_workflows=resumes)
        return answers.no_content()

    def restart(self, call: Call) -> Response:
        """Begin again."""
        latest = call.flag("useLatestDefinitions", default=False)
        self._model.restart_workflow(call.parts["workflow"], use_latest_definitions=latest)
        return answers.no_content()

    def reset_callbacks(self, call: Call) -> Response:
        """Make what is delayed pollable."""
        self._model.reset_callbacks(call.parts["workflow"])
        return answers.no_content()

    def rerun(self, call: Call) -> Response:
        """Go back to an attempt; the id of the workflow."""
        workflow_id = call.parts["workflow"]
        body = call.bean(bodies.RERUN)
        read = FieldReader("rerun workflow", body)
        inputs = {name: read.mapping(name) if body.get(name) is not None else None for name in _RERUN_INPUTS}
        self._model.rerun_workflow(
            workflow_id,
            read.text("reRunFromTaskId"),
            task_input=inputs["taskInput"],
            workflow_input=inputs["workflowInput"],
        )
        return answers.text(workflow_id)

    @staticmethod
    def _acted(call: Call, act: Callable[[str], Any]) -> Response:
        act(call.parts["workflow"])
        return answers.done()


_RERUN_INPUTS = ("taskInput", "workflowInput")
