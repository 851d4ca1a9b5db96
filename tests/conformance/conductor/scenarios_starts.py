"""Starting workflows."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, each, rest, scenario, send, to
from .workflows import (
    Json,
    StartedWorkflow,
    at,
    definition,
    on,
    register_workflow,
    registered,
    start_registered,
    start_steps,
    step,
    task_type,
    unregistered,
)


@scenario
def by_name(rest: Rest) -> None:
    """The workflow in the path, its input the body."""
    name = register_workflow(rest, step(task_type(rest)))
    query = {"version": 1, "correlationId": "c", "priority": 7}
    answer = rest.post("/workflow/{name}", {"x": 5}, name=name, query=query)
    StartedWorkflow(rest, "", name, answer.text).read()


stored = to(registered, step("task"))
BROUGHT = step(
    at.rest.unique("task"),
    taskDefinition={"name": at.rest.unique("task"), "retryCount": 0, "responseTimeoutSeconds": 77},
)
REFUSED: dict[str, Json] = {
    "with_null_as_input": {"input": None},
    "an_unknown_version": {"version": 4},
    "a_priority_above_99": {"priority": 100},
    "a_negative_priority": {"priority": -1},
    "an_input_that_is_a_text": {"input": "text"},
    "a_version_beyond_32_bits": {"version": 2**40},
    "a_version_that_is_true": {"version": True},
    "a_priority_of_a_text_of_a_fraction": {"priority": "2.0"},
    "a_starter_that_is_a_list": {"createdBy": []},
    "an_unknown_strategy": {"idempotencyStrategy": "fail"},
}


@scenario
def a_definition_in_the_request(rest: Rest) -> None:
    """A start may bring its own definition, which is used and not registered."""
    made = unregistered(rest, "task")
    own = definition(made.name, step(made.task), outputParameters={"o": 1})
    on = made.start(input={"x": 5}, workflowDef=own, show=("workflowDefinition",))
    on.run()
    on.read()
    made.read()


@scenario
def an_unregistered_task_type(rest: Rest) -> None:
    """A task without a definition runs by the server's default one."""
    task = rest.name("task")
    on = start_registered(rest, task, register_workflow(rest, step(task)))
    on.read(show=("taskDefinition",))
    on.poll()


@scenario
def an_idempotency_key_is_ignored(rest: Rest) -> None:
    """The same key twice starts two workflows."""
    name = register_workflow(rest, step(task_type(rest)))
    body = {"name": name, "idempotencyKey": "k", "idempotencyStrategy": "RETURN_EXISTING"}
    one, two = (rest.post("/workflow", body).text for _ in range(2))
    rest.note("they are two", one != two)


@scenario
def a_correlation_id_is_not_unique(rest: Rest) -> None:
    """Two workflows may share a correlation id; their tasks show it."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    on = [start_registered(rest, task, name, correlationId="same") for _ in range(2)]
    rest.note("they are two", on[0].id != on[1].id)
    on[1].poll()


@scenario
def a_template_of_the_input(rest: Rest) -> None:
    """The template of a definition fills what is missing or null in an input that is not empty."""
    task = task_type(rest)
    name = register_workflow(rest, step(task), inputTemplate={"a": 1, "b": {"c": 2}})
    cases: tuple[Json, ...] = ({}, {"x": 1}, {"a": None, "b": 3})
    for given in cases:
        on = start_registered(rest, task, name, given=given)
        rest.note(f"the input, given {given}", on.silent.read()["input"])


@scenario
def a_definition_in_the_request_lives_on(rest: Rest) -> None:
    """Name and version are those of the definition; its template fills an input; a restart runs it again."""
    task, name = task_type(rest), rest.name("workflow")
    brought = {"name": name, "version": 3, "tasks": [step(task)], "inputTemplate": {"y": 1}}
    body = {"name": "another", "version": 9, "input": {"x": 1}, "workflowDef": brought}
    on = StartedWorkflow(rest, task, name, rest.post("/workflow", body).text)
    on.note_all()
    shown = on.silent.read()
    rest.note("what runs", [shown["workflowName"], shown["workflowVersion"]])
    kept = ("version", "schemaVersion", "inputTemplate", "timeoutPolicy")
    rest.note("its definition", {key: shown["workflowDefinition"][key] for key in kept})
    on.run("FAILED")
    on.run("FAILED")
    on.noted.restart()
    body = {"name": "another", "input": {}, "workflowDef": brought}
    StartedWorkflow(rest, task, name, rest.post("/workflow", body).text).note_all()


SCENARIOS: Declared = {
    # A start answers with the bare workflow id as text; the first task is scheduled.
    "by_a_body": stored(
        at.start(version=1, input={"x": 5}, correlationId="c", priority=3, show=("workflowDefinition", "workflowTask"))
    ),
    # Without a body, a start by name is a 500.
    "by_name_needs_a_body": stored(
        at.rest.post("/workflow/{name}", name=at.name, headers={"Content-Type": "application/json"})
    ),
    # The input is a map.
    "by_name_with_a_list": stored(at.rest.post("/workflow/{name}", [1], name=at.name)),
    # A start needs no input; what refers to it is null.
    "without_input": stored(at.start()),
    # A start with this member is refused: priorities are 0 to 99, and an input is a map.
    **each(
        REFUSED,
        lambda case: to(registered, step("any"), types={})(at.rest.post("/workflow", {"name": at.name, **case})),
    ),
    # Without a version the highest is started, even if it was registered first.
    "the_highest_version_is_started": to(registered, step("task", "of_seven"), version=7)(
        at.silent.post(step("task", "of_three"), version=3), at.start()
    ),
    # A version can be chosen.
    "a_version_is_started": to(registered, step("task", "of_two"), version=2)(
        at.silent.post(step("task", "of_one")), at.start(version=1)
    ),
    # A definition in the request is taken although the name is registered.
    "a_definition_in_the_request_goes_first": to(registered, step("task", "registered"))(
        at.start(workflowDef=definition(at.name, step(at.task, "sent")))
    ),
    # A bad definition in the request is refused.
    "a_definition_in_the_request_is_checked": to(unregistered)(
        at.rest.post("/workflow", {"name": at.name, "workflowDef": definition(at.name)})
    ),
    # A task of a definition in the request may bring its task definition.
    "a_task_definition_in_the_request": to(unregistered)(
        at.start(workflowDef=definition(at.name, BROUGHT), show=("taskDefinition",))
    ),
    # A member of the request that the server does not know is dropped.
    "unknown_members_are_ignored": stored(at.start(perago=1)),
    # Starting what is not registered is a 404.
    "an_unknown_workflow": send(rest.post("/workflow", {"name": rest.name("workflow"), "input": {}})),
    "an_unknown_workflow_by_name": send(rest.post("/workflow/{name}", name=rest.name("workflow"), json={})),
    # A start names the workflow.
    "a_missing_name": send(rest.post("/workflow", {"input": {}})),
    # A workflow's priority is that of its tasks.
    "a_priority_is_seen_by_the_task": to(start_steps, options={"priority": 42})(on.poll()),
}
