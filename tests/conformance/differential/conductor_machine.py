"""Random work on workflows of a few random definitions: starts, polls, results, and everything that is done by hand.

A real Conductor does some of its work in the background: JOINs, sub-workflows, parents of what has ended. So each
change is followed by looks at the workflows that it concerns, repeated until both servers agree, and queues are
compared before anything is taken from them.

Left out, because the real server's answer is luck:

- An unsuccessful result of a step that a JOIN waits for: whether the JOIN or the retry comes first.
- What becomes of a JOIN whose workflow ends unsuccessfully while it waits, and retries and reruns of such a workflow;
  its output, and that of a step whose sub-workflow failed or was cancelled, which may be that of such a JOIN.
- Results for a JOIN itself: its own worker may overwrite them.
- An output of a step that a JOIN waits for while the step runs: a look of the JOIN at that moment keeps it, even where
  the step ends without an output.
- Two sub-workflows in one fork: which of them comes first.
- Update v2 where the server's own workers have a share, whether they are done before its poll ends; and of a step of
  the server itself, as it polls for such steps of all workflows.
- A skipped step of a loop: the real server may go on deciding without end, and the model refuses it.
- More than one skipped step in a workflow: in which order they are shown.
- Retries and reruns where a step was skipped: they fail half-way on the real server, and succeed here.
- A result for a step that a JOIN waits for which names another workflow: its JOIN is looked at up to 30 s later.
- A result by reference where several attempts of the step are open: their ids, drawn by lot, decide.

Left out, because it is not modelled to the last: reviving a family of a workflow and its sub-workflows, by retry,
rerun or restart, more than once. The server keeps what was cancelled, removed and started again on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ..targets import Target
from .conductor_definitions import NOWHERE, few, outputs, results, workflows
from .conductor_state import OPEN, ServerState, Task, Workflow
from .pair import Both

Json = dict[str, Any]

DOMAINS = ("d1", "d2")

inputs = st.sampled_from(({}, {"x": 1}, {"x": "2"}, {"x": 3, "y": None}))
workers = st.sampled_from(("w1", "w2"))


def some(machine: Any) -> bool:
    """Whether a workflow was started."""
    return bool(machine.known.workflows)


def busy(machine: Any) -> bool:
    """Whether there is so much that something may be undone."""
    return len(machine.known.workflows) > 1


class ConductorMachine(RuleBasedStateMachine):
    """Rules do one thing each, and look at what came of it."""

    targets: Callable[[], tuple[Target, Target]]
    """Gives the embedded and the real server; set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.known = ServerState(type(self).targets())
        self.pair = self.known.pair
        self.types = [self.pair.name(label) for label in ("red", "green", "blue")]
        self.inner = [self.pair.name("inner")]
        self.outer = [self.pair.name("outer"), self.pair.name("other")]
        self.undefined = self.pair.name("undefined")

    def teardown(self) -> None:
        self.known.close()

    def call(self, method: str, path: str, **given: Any) -> Any:
        """One request, compared."""
        return self.pair.call(method, path, **given)

    @initialize(data=st.data())
    def define(self, data: st.DataObject) -> None:
        definitions = [
            {"name": name, "retryCount": retries, "retryDelaySeconds": 0} for retries, name in enumerate(self.types)
        ]
        self.call("POST", "/metadata/taskdefs", json=definitions)
        for name in self.inner:
            self.call("POST", "/metadata/workflow", json=data.draw(workflows(name, self.types, ())))
        for name in self.outer:
            self.call("POST", "/metadata/workflow", json=data.draw(workflows(name, self.types, self.inner)))
            self.known.began(self.call("POST", "/workflow", json={"name": name, "input": data.draw(inputs)}), name)

    # ----------------------------------------------------------------- choosing

    def workflow(self, data: st.DataObject) -> Workflow:
        return data.draw(st.sampled_from(list(self.known.workflows.values())), "workflow")

    def task(self, data: st.DataObject) -> Task | None:
        """Any known attempt, more often than not one that is open."""
        known = [task for task in self.known.tasks.values() if task.row["taskType"] != "JOIN"]
        waiting = [task for task in known if task.row["status"] in OPEN]
        chosen = waiting if waiting and not data.draw(few(4)) else known
        return data.draw(st.sampled_from(chosen), "task") if chosen else None

    # ------------------------------------------------------------------- starts

    @rule(data=st.data(), payload=inputs, by_name=few(3), inline=few(5))
    def start(self, data: st.DataObject, payload: Json, by_name: bool, inline: bool) -> None:
        name = data.draw(st.sampled_from((*self.outer, *self.outer, *self.outer, *self.inner, self.undefined)), "name")
        version = data.draw(st.sampled_from((None, None, None, 1, 1, 7)), "version")
        priority = data.draw(st.sampled_from((0, 0, 0, 5, 99, 99, 5, 100)), "priority")
        asked: Json = {"correlationId": "c1"} if data.draw(st.booleans()) else {}
        asked |= {"priority": priority} | ({"version": version} if version else {})
        if by_name:
            answers = self.call("POST", "/workflow/{name}", name=name, query=asked, json=payload)
        else:
            body: Json = {"name": name, "input": payload, **asked}
            if inline:
                body["workflowDef"] = data.draw(workflows(name, self.types, self.inner), "definition")
            domain = data.draw(st.sampled_from((None, None, None, {"*": "d1"}, {self.types[0]: "d2,NO_DOMAIN"})))
            answers = self.call("POST", "/workflow", json=body | ({"taskToDomain": domain} if domain else {}))
        self.known.began(answers, name)

    # -------------------------------------------------------------------- polls

    def waiting(self) -> list[str]:
        """Queues in which something waits, on both servers alike."""
        names = [*self.types, *(f"{domain}:{name}" for domain in DOMAINS for name in self.types)]
        sizes = self.known.queues_agree(names)
        return [name for name in names if sizes[name]]

    def poll(self, queue: str, worker: str, **query: Any) -> list[tuple[str, str]]:
        """Take work; the ids on both servers of what came."""
        domain, _, name = queue.rpartition(":")
        asked = {"workerid": worker, **query} | ({"domain": domain} if domain else {})
        batch = "/batch" if "count" in query else ""
        answers = self.call("GET", f"/tasks/poll{batch}/{{type}}", query=asked, type=name)
        if answers[0].status != 200:
            return []
        came = [answer.json if batch else [answer.json] for answer in answers]
        self.known.look_by_ids([row["workflowInstanceId"] for row in came[0]])
        return [(one["taskId"], other["taskId"]) for one, other in zip(*came, strict=True)]

    def queue(self, data: st.DataObject, *, empty: bool) -> str | None:
        waiting = self.waiting()
        if not waiting or empty:
            return data.draw(st.sampled_from((*self.types, f"d1:{self.types[0]}")), "queue") if empty else None
        return data.draw(st.sampled_from(waiting), "queue")

    @rule(data=st.data(), worker=workers, any_queue=few(12))
    def poll_one(self, data: st.DataObject, worker: str, any_queue: bool) -> None:
        queue = self.queue(data, empty=any_queue)
        if queue is not None:
            self.poll(queue, worker)

    @rule(data=st.data(), worker=workers, any_queue=few(4), count=st.integers(0, 3))
    def poll_batch(self, data: st.DataObject, worker: str, any_queue: bool, count: int) -> None:
        queue = self.queue(data, empty=any_queue)
        if queue is not None:
            self.poll(queue, worker, count=count, timeout=0)

    @rule(data=st.data(), output=outputs, times=st.integers(1, 3))
    def work(self, data: st.DataObject, output: Json, times: int) -> None:
        """Take work and do it well."""
        for _ in range(times):
            queue = self.queue(data, empty=False)
            if queue is None:
                return
            for one, _other in self.poll(queue, "w1"):
                task = self.known.tasks[one]
                self.send("/tasks", task, {"status": "COMPLETED", "outputData": output})

    # ------------------------------------------------------------------ results

    def send(self, path: str, task: Task, fields: Json, workflow: Both | str | None = None) -> tuple[Any, Any]:
        """Send a result and look at the workflows that it names."""
        body = {"taskId": task.id, "workflowInstanceId": workflow or task.workflow.id, "workerId": "w1", **fields}
        answers: tuple[Any, Any] = self.call("POST", path, json={k: v for k, v in body.items() if v is not None})
        concerned = [task.workflow]
        if isinstance(workflow, Both) and workflow.embedded in self.known.workflows:
            concerned.append(self.known.workflows[workflow.embedded])
        self.known.look(*concerned)
        return answers

    @precondition(some)
    @rule(data=st.data(), elsewhere=few(8))
    def update(self, data: st.DataObject, elsewhere: bool) -> None:
        if (task := self.task(data)) is None:
            return
        workflow: Both | str | None = None
        if elsewhere and not task.is_joined:
            others: list[Both | str] = [NOWHERE, *(one.id for one in self.known.workflows.values())]
            workflow = data.draw(st.sampled_from(others))
        self.send("/tasks", task, data.draw(results(task.is_joined), "result"), workflow)

    @precondition(some)
    @rule(data=st.data())
    def update_v2(self, data: st.DataObject) -> None:
        task = self.task(data)
        if (
            task is None
            or task.row["workflowTask"]["type"] != "SIMPLE"
            or any(one.has_background for one in task.workflow.family)
        ):
            return
        self.waiting()
        answers = self.send("/tasks/update-v2", task, data.draw(results(task.is_joined), "result"))
        if answers[0].status == 200:
            self.known.look_by_ids([answers[0].json["workflowInstanceId"]])

    @precondition(some)
    @rule(data=st.data(), output=outputs)
    def update_by_reference(self, data: st.DataObject, output: Json) -> None:
        task = self.task(data)
        if task is None or task.workflow.open_rows(task.row["referenceTaskName"]) > 1:
            return  # which of several it is depends on their ids, which are drawn by lot
        statuses = ("COMPLETED", "IN_PROGRESS") if task.is_joined else ("COMPLETED", "FAILED", "IN_PROGRESS")
        status = data.draw(st.sampled_from(statuses), "status")
        step = {"workflow": task.workflow.id, "reference": task.row["referenceTaskName"], "status": status}
        body = {} if task.is_joined and status == "IN_PROGRESS" else output
        self.call("POST", "/tasks/{workflow}/{reference}/{status}", json=body, **step)
        self.known.look(task.workflow)

    @precondition(some)
    @rule(data=st.data(), text=st.sampled_from(("one", '"quoted"', "ü\n2")))
    def log(self, data: st.DataObject, text: str) -> None:
        if (task := self.task(data)) is not None:
            headers = {"Content-Type": "application/json"}
            self.call("POST", "/tasks/{task}/log", task=task.id, body=text.encode(), headers=headers)
            self.call("GET", "/tasks/{task}/log", task=task.id)

    # -------------------------------------------------------------------- looks

    @precondition(some)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if (task := self.task(data)) is not None:
            self.call("GET", "/tasks/{task}", task=task.id)
            self.call("GET", "/tasks/{task}/log", task=task.id)
        chosen = self.workflow(data)
        workflow, output = chosen.id, str(not chosen.has_unlucky_join).lower()
        query = {"includeOutput": output, "includeVariables": "true"}
        self.pair.settled("GET", "/workflow/{workflow}/status", workflow=workflow, query=query)
        page: Json = {"start": data.draw(st.integers(0, 2)), "count": data.draw(st.integers(1, 3))}
        page |= data.draw(st.sampled_from(({}, {"status": "COMPLETED"}, {"status": ["SCHEDULED", "IN_PROGRESS"]})))
        self.pair.settled("GET", "/workflow/{workflow}/tasks", workflow=workflow, query=page)

    # ------------------------------------------------------------------ by hand

    def act(self, method: str, path: str, workflow: Workflow, **given: Any) -> bool:
        """Ask for it and look at what came of it; whether it was done."""
        answer, _ = self.call(method, f"/workflow/{path}", workflow=workflow.id, **given)
        self.known.look(workflow)
        return bool(answer.status < 300)

    @precondition(some)
    @rule(data=st.data(), chosen=st.sampled_from(("pause", "resume", "resume")))
    def pause_or_resume(self, data: st.DataObject, chosen: str) -> None:
        self.act("PUT", f"{{workflow}}/{chosen}", self.workflow(data))

    @precondition(some)
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        self.act("PUT", "decide/{workflow}", self.workflow(data))
        self.act("POST", "{workflow}/resetcallbacks", self.workflow(data))

    @precondition(busy)
    @rule(data=st.data(), query=st.sampled_from(({}, {"reason": "over"})))
    def terminate(self, data: st.DataObject, query: Json) -> None:
        self.act("DELETE", "{workflow}", self.workflow(data), query=query)

    @precondition(some)
    @rule(data=st.data(), resume=st.sampled_from(({}, {}, {"resumeSubworkflowTasks": "true"})))
    def retry(self, data: st.DataObject, resume: Json) -> None:
        if (workflow := self.revivable(data)) is not None:
            self.revive("retry", workflow, query=resume)

    @precondition(some)
    @rule(data=st.data(), latest=st.booleans())
    def restart(self, data: st.DataObject, latest: bool) -> None:
        if (workflow := self.revivable(data)) is not None:
            query = {"useLatestDefinitions": str(latest).lower()}
            self.revive("restart", workflow, query=query)

    @precondition(some)
    @rule(data=st.data(), taken=st.booleans(), changed=few(3))
    def rerun(self, data: st.DataObject, taken: bool, changed: bool) -> None:
        if (workflow := self.revivable(data)) is None:
            return
        body: Json = {"taskInput": {"x": 9}, "workflowInput": {"x": 2}} if changed else {}
        known = [task for task in self.known.tasks.values() if task.workflow is workflow]
        if taken and known:
            body["reRunFromTaskId"] = data.draw(st.sampled_from(known), "from").id
        self.revive("rerun", workflow, json=body)

    def revivable(self, data: st.DataObject) -> Workflow | None:
        """A workflow whose family may be revived."""
        workflow = self.workflow(data)
        return workflow if all(one.is_revivable for one in workflow.family) else None

    def revive(self, how: str, workflow: Workflow, **given: Any) -> None:
        if self.act("POST", f"{{workflow}}/{how}", workflow, **given):
            workflow.revived = True

    @precondition(some)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        workflow = self.workflow(data)
        reference = data.draw(st.sampled_from((*workflow.references, "none")), "reference")
        if workflow.has_skipped:
            return
        self.act("PUT", "{workflow}/skiptask/{reference}", workflow, reference=reference)

    @precondition(busy)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.act("DELETE", "{workflow}/remove", self.workflow(data))

    # -------------------------------------------------------------- definitions

    @precondition(busy)
    @rule(data=st.data(), chosen=st.sampled_from(("task", "workflow", "workflow", "forget")))
    def define_again(self, data: st.DataObject, chosen: str) -> None:
        getattr(self, f"again_{chosen}")(data)

    def again_task(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from((*self.types, self.undefined)), "name")
        body = {"name": name, "retryCount": data.draw(st.integers(0, 2), "retries"), "retryDelaySeconds": 0}
        self.call("PUT", "/metadata/taskdefs", json=body)
        self.call("GET", "/metadata/taskdefs/{name}", name=name)

    def again_workflow(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from((*self.outer, *self.inner)), "name")
        body = data.draw(workflows(name, self.types, self.inner if name in self.outer else ()), "definition")
        if data.draw(few(3)):
            self.call("POST", "/metadata/workflow", json=body)
        else:
            self.call("PUT", "/metadata/workflow", json=[body])
        self.call("GET", "/metadata/workflow/{name}", name=name)

    def again_forget(self, data: st.DataObject) -> None:
        known = data.draw(few(4))
        name = data.draw(st.sampled_from(self.outer)) if known else self.undefined
        self.call("DELETE", "/metadata/workflow/{name}/1", name=name)
        self.call("DELETE", "/metadata/taskdefs/{name}", name=self.types[2] if known else self.undefined)
