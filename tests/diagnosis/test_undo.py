"""`perago undo`, and what `perago rerun` and `perago retry` undo first, on embedded servers over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from perago.adapters.conductor.overview import ConductorWorkflows
from perago.configuration import Servers
from perago.diagnosis import operations
from perago.diagnosis.undo import UndoPlan, wait_until_at_rest
from perago.driver import AttemptRecord, AttemptRuntime, deliver_report, run_attempt
from perago.embedded.services import EmbeddedServices
from perago.failure import Failure
from perago.ports import Commit, NotFound, Refused, SystemClock, TaskStatus, Unclear, WorkspaceStore
from perago.settings import load_settings
from perago.taskdef import build_task_definition
from perago.testing.tasks import task_of

from ..definitions import flow, forking, operator, simple
from ..driver.forking import TREE, plain

TASK = task_of(plain)
BLOCK = "${workflow.input.workspace}"


JOINED = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": "${fork_join.output}"}


def step(name: str, *, ref: Any = BLOCK, **fields: Any) -> dict[str, Any]:
    """A step that writes what the input of the workflow says for its name."""
    return {**simple(TASK.name, name, workspace=ref, params=f"${{workflow.input.{name}}}"), **fields}


class Family:
    """A started workflow whose attempts run in this process."""

    def __init__(self, services: EmbeddedServices, servers: Servers, root: Path) -> None:
        self.services, self.servers, self.root = services, servers, root
        self.workflow_id = ""

    def start(self, *steps: dict[str, Any], **edits: Any) -> None:
        """Start a workflow of these steps. `edits`: the params of each step."""
        self.ref = self.services.lakefs.seed("workspace", "main", TREE).id
        conductor = self.services.conductor
        conductor.register_task_definitions([{**build_task_definition(TASK), "retryDelaySeconds": 0}])
        block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": self.ref}
        definition = flow(*steps, name="family")
        conductor.create_workflow_definition(definition, overwrite=True)
        self.workflow_id = conductor.start_workflow("family", {"workspace": block, **edits})

    def run(self, *names: str, report: TaskStatus | None = None, silent: bool = False) -> list[AttemptRecord]:
        """Run the waiting attempts of these steps, in this order. `report` replaces the status that is reported;
        `silent` ends the worker before its report."""
        conductor, waiting = self.services.conductor, {}
        records = list[AttemptRecord]()
        for delivery in conductor.poll(TASK.name, "w", count=20, wait_seconds=0):
            waiting[delivery.reference_name] = delivery
        assert set(names) <= set(waiting), f"{set(waiting)} wait"
        for name in names:
            runtime = AttemptRuntime(
                store=cast("WorkspaceStore", self.services.lakefs),
                delivery_check=conductor,
                workspace_root=self.root,
                clock=SystemClock(),
            )
            record = run_attempt(TASK, waiting[name], runtime)
            records.append(record)
            if record.waits:
                conductor.hand_back(waiting.pop(name))
            elif record.report is not None and not silent:
                text = record.report if report is None else type(record.report)(report, {}, "on purpose")
                deliver_report(conductor, SystemClock(), waiting.pop(name), text, "w")
        for delivery in waiting.values():
            if not silent or delivery.reference_name not in names:
                conductor.hand_back(delivery)
        return records

    def run_all(self) -> None:
        """Run attempts until none waits."""
        for _ in range(40):
            waiting = [row["referenceTaskName"] for row in self.rows() if row["status"] in ("SCHEDULED", "IN_PROGRESS")]
            names = [name for name in waiting if name.startswith("f")]
            if not names:
                return
            self.run(names[0])
        raise AssertionError("attempts still wait")

    @property
    def status(self) -> str:
        return str(self.services.conductor.workflow(self.workflow_id)["status"])

    def rows(self) -> list[Mapping[str, Any]]:
        return list(self.services.conductor.workflow(self.workflow_id)["tasks"])

    def row(self, name: str) -> Mapping[str, Any]:
        return next(row for row in reversed(self.rows()) if row["referenceTaskName"] == name)

    def tree(self) -> dict[str, str]:
        """The files of the branch that the steps have added."""
        files = self.services.lakefs.tree("workspace", "main@")
        return {path: data.decode() for path, data in files.items() if path not in TREE and not path.startswith("_")}

    def in_effect(self) -> Counter[str]:
        """How many publications of each step are in effect, by the metadata of the branch."""
        commits = self.services.lakefs.history("workspace", "main", until=self.ref, limit=100)
        undone = set(",".join(commit.metadata.get("perago.supersedes", "") for commit in commits).split(","))
        return Counter(
            commit.metadata["perago.reference_name"]
            for commit in commits
            if commit.id not in undone
            and commit.metadata["perago.phase"] == "merge"
            and "perago.operation" not in commit.metadata
        )

    def plan(self) -> UndoPlan:
        return operations.undoing_of(self.servers, self.workflow_id, "to try").plan()

    def undo(self) -> UndoPlan:
        undoing = operations.undoing_of(self.servers, self.workflow_id, "to try")
        plan = wait_until_at_rest(undoing, 0.0)
        undoing.carry_out(plan)
        return plan


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    with EmbeddedServices() as services:
        for name, value in services.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", str(tmp_path / "root"))
        (tmp_path / "root").mkdir()
        with Servers(load_settings()) as servers:
            yield Family(services, servers, tmp_path / "root")


def put(path: str, text: str = "x") -> dict[str, Any]:
    return {"put": {path: text}}


FORK = (*forking("fork", [step("f0")], [step("f1")]), step("f2", ref=JOINED))


def rerun_without_an_answer(monkeypatch: pytest.MonkeyPatch, family: Family, from_step: str | None) -> None:
    """Interrupt `perago rerun` after its undo: Conductor gets no request, and perago gets no answer."""

    def lose(*_: object) -> None:
        raise Unclear("Conductor", "rerun", "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(ConductorWorkflows, "rerun" if from_step else "restart", lose)
        with pytest.raises(Failure, match="it is unknown whether the steps run again"):
            operations.rerun(family.servers, family.workflow_id, from_step)


def test_a_rerun_of_a_fork_undoes_first_and_completes_in_any_order(family: Family) -> None:
    """Each branch failed once and was retried. Conductor also starts the first attempt of f1 again."""
    family.start(*forking("fork", [step("f0")], [step("f1")]), f0=put("a"), f1=put("b"))
    for report in (TaskStatus.FAILED, None):
        family.run("f0", "f1", report=report)
    assert family.status == "COMPLETED"
    row = family.row("f0")
    with pytest.raises(Failure) as refused:
        operations.rerun(family.servers, family.workflow_id, row["taskId"])
    assert "perago rerun" in refused.value.fix, "Conductor would leave the workflow stuck"

    done = operations.rerun(family.servers, family.workflow_id, None)
    assert done.undone[0].startswith("undid 4 publications on workspace/main"), "with two fence commits"
    assert family.tree() == {}
    family.run("f1", "f0")
    assert (family.status, family.tree(), family.in_effect()) == ("COMPLETED", {"a": "x", "b": "x"}, {"f0": 1, "f1": 1})


def test_a_rerun_that_takes_another_way_leaves_nothing_of_the_first_one(family: Family) -> None:
    switch = operator(
        "SWITCH",
        "switch",
        evaluatorType="value-param",
        expression="way",
        inputParameters={"way": "left"},
        decisionCases={"left": [step("f1")]},
        defaultCase=[],
    )
    family.start(step("f0"), switch, f0=put("a"), f1=put("b"))
    family.run_all()
    assert family.tree() == {"a": "x", "b": "x"}
    operations.rerun(family.servers, family.workflow_id, "f0")
    assert family.tree() == {}, "no step after f0 counts, whatever runs next"
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x"})


def test_a_rerun_of_a_loop_with_a_variable_names_a_rerun_that_completes(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conductor keeps the variable, so the first round gets the ref of the last one, which would be undone."""
    begin = operator("SET_VARIABLE", "begin", inputParameters={"last": BLOCK})
    keep = operator("SET_VARIABLE", "keep", inputParameters={"last": "${f1.output.workspace}"})
    rounds = [step("f1", ref="${workflow.variables.last}"), keep]
    loop = operator("DO_WHILE", "loop", loopCondition="$.loop['iteration'] < 2", loopOver=rounds)
    family.start(begin, step("f0"), loop, f0=put("a"), f1=put("b"))
    family.run_all()
    again = f"perago rerun {family.workflow_id}"
    for late in ("loop", "f0"):
        with pytest.raises(Failure, match="loop would begin with the workspace of its last round") as refused:
            operations.rerun(family.servers, family.workflow_id, late)
        assert refused.value.fix == f"begin at begin: {again} --from begin; or run every step again: {again}"
    with monkeypatch.context() as patch:
        patch.setattr(operations, "rerun_refusal", lambda *_: None)
        operations.rerun(family.servers, family.workflow_id, "loop")
    (record,) = family.run("f1__1")
    assert record.report is not None
    assert f"or an earlier one, or all of it: perago rerun {family.workflow_id}" in str(record.report.reason)
    assert family.status == "FAILED"
    for advised in ("begin", None):
        operations.rerun(family.servers, family.workflow_id, advised)
        family.run_all()
        assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x"})
        assert family.in_effect() == {"f0": 1, "f1__1": 1}


def test_a_retry_undoes_what_a_failed_sub_workflow_has_published(family: Family) -> None:
    conductor = family.services.conductor
    conductor.register_task_definitions([{**build_task_definition(TASK), "retryCount": 0}])
    conductor.create_workflow_definition(flow(step("f1"), step("f2"), name="child"))
    inputs = {name: f"${{workflow.input.{name}}}" for name in ("workspace", "f1", "f2")}
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "child"}, inputParameters=inputs)
    family.start(*forking("fork", [step("f0")], [sub]), f0=put("a"), f1=put("b"), f2=put("c"))
    conductor.register_task_definitions([{**build_task_definition(TASK), "retryCount": 0}])
    family.run("f0", "f1")
    family.run("f2", report=TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    assert (family.status, family.tree()) == ("FAILED", {"a": "x", "b": "x", "c": "x"})

    done = operations.retry(family.servers, family.workflow_id)
    assert done.undone[0].startswith("undid 2 publications")
    assert family.tree() == {"a": "x"}
    family.run("f1")
    family.run("f2")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "c": "x"})
    assert family.in_effect() == {"f0": 1, "f1": 1, "f2": 1}
    assert not family.plan().is_needed


def looping(body: dict[str, Any], *, ref: str, begin: str = BLOCK, name: str = "loop") -> list[dict[str, Any]]:
    """Two rounds of a step that keep the last one only. Each continues the commit of the one before."""
    keep = operator("SET_VARIABLE", f"{name}_keep", inputParameters={"workspace": ref})
    condition, inputs = f"$.{name}['iteration'] < 2", {"keepLastN": 1}
    loop = operator("DO_WHILE", name, loopCondition=condition, loopOver=[body, keep], inputParameters=inputs)
    return [operator("SET_VARIABLE", f"{name}_begin", inputParameters={"workspace": begin}), loop]


def test_a_retry_keeps_the_rounds_that_a_loop_has_forgotten(family: Family) -> None:
    """The failed sub-workflow of the second round starts again. It is not the forgotten one of the first round."""
    conductor = family.services.conductor
    output = {"workspace": "${f1.output.workspace}"}
    conductor.create_workflow_definition(flow(step("f1"), name="child", outputParameters=output))
    inputs = {"workspace": "${workflow.variables.workspace}", "f1": "${workflow.input.f1}"}
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "child"}, inputParameters=inputs)
    family.start(*looping(sub, ref="${sub.output.workspace}"), f1=put("a"))
    family.run("f1")
    family.run("f1", report=TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    assert (family.status, family.tree()) == ("FAILED", {"a": "x"})
    assert operations.retry(family.servers, family.workflow_id).undone == ()
    family.run("f1")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x"})


@pytest.mark.parametrize(("again", "is_first_loop"), [("f0", True), (None, True), (None, False)])
def test_a_rerun_before_a_loop_that_forgets_rounds_completes(
    family: Family, again: str | None, is_first_loop: bool
) -> None:
    """The rounds of a loop that the rerun begins again are not forgotten ones."""
    variable, earlier = "${workflow.variables.workspace}", list[dict[str, Any]]()
    if not is_first_loop:
        earlier = looping(step("f3", ref=variable), ref="${f3.output.workspace}", name="earlier")
    family.start(
        *earlier,
        step("f0", ref=variable if earlier else BLOCK),
        *looping(step("f1", ref=variable), ref="${f1.output.workspace}", begin="${f0.output.workspace}"),
        step("f2", ref=variable),
        f0=put("a"),
        f1=put("b"),
        f2=put("c"),
        f3=put("d"),
    )
    family.run_all()
    tree = {"a": "x", "b": "x", "c": "x"} | ({} if is_first_loop else {"d": "x"})
    assert (family.status, family.tree()) == ("COMPLETED", tree)
    operations.rerun(family.servers, family.workflow_id, again)
    assert family.tree() == {}
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", tree)


def test_a_rerun_behind_a_loop_that_forgets_rounds_undoes_a_sub_workflow(family: Family) -> None:
    """The rerun removes the row of the sub-workflow, which the loop has not forgotten."""
    variable = "${workflow.variables.workspace}"
    family.services.conductor.create_workflow_definition(flow(step("f1"), name="child"))
    inputs = {"workspace": variable, "f1": "${workflow.input.f1}"}
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "child"}, inputParameters=inputs)
    loop = looping(step("f3", ref=variable), ref="${f3.output.workspace}")
    family.start(*loop, step("f0", ref=variable), sub, f0=put("a"), f1=put("b"), f3=put("d"))
    for name in ("f3__1", "f3__2", "f0", "f1"):
        family.run(name)
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "d": "x"})
    operations.rerun(family.servers, family.workflow_id, "f0")
    assert family.tree() == {"d": "x"}
    family.run("f0")
    family.run("f1")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "d": "x"})


def test_a_restart_in_conductor_undoes_all_rounds_of_a_loop(family: Family) -> None:
    variable = "${workflow.variables.workspace}"
    family.start(
        step("f0"),
        *looping(step("f1", ref=variable), ref="${f1.output.workspace}", begin="${f0.output.workspace}"),
        f0=put("a"),
        f1=put("b"),
    )
    family.run_all()
    family.services.conductor.restart_workflow(family.workflow_id)
    family.run("f0")
    assert family.tree() == {"a": "x"}
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x"})


def test_a_refused_rerun_brings_back_what_it_has_undone(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    family.start(*FORK, f0=put("a"), f1=put("b"), f2=put("c"))
    family.run_all()

    def refuse(*_: object) -> None:
        raise Refused("Conductor", "restart", "not today")

    monkeypatch.setattr(ConductorWorkflows, "restart", refuse)
    with pytest.raises(Failure, match="Conductor refused, so what was undone is back") as refused:
        operations.rerun(family.servers, family.workflow_id, None)
    assert refused.value.fix.endswith(f"run every step again: perago rerun {family.workflow_id}")
    assert family.tree() == {"a": "x", "b": "x", "c": "x"}
    assert not family.plan().is_needed
    monkeypatch.undo()


def test_a_retry_whose_attempts_are_canceled_is_to_be_run_again(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conductor was still ending the workflow when it accepted the first retry."""
    family.start(step("f0"), f0=put("a"))
    family.run("f0", report=TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    conductor = family.services.conductor

    def retry_and_end(*_: object) -> None:
        conductor.retry_workflow(family.workflow_id)
        conductor.terminate_workflow(family.workflow_id, "by hand")

    with monkeypatch.context() as patch:
        patch.setattr(ConductorWorkflows, "retry", retry_and_end)
        (warning,) = operations.retry(family.servers, family.workflow_id).warnings
    assert warning == (
        "it has ended again already: TERMINATED (by hand); attempts of this run: f0 CANCELED; Conductor has canceled "
        "them, because it was still ending the workflow: run the command again"
    )
    operations.retry(family.servers, family.workflow_id)
    family.run("f0")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x"})


def test_a_refused_retry_brings_back_only_what_still_counts(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another operator was faster, and the step has published again."""
    family.start(step("f0"), f0=put("a"))
    family.run_all()
    conductor = family.services.conductor
    conductor.rerun_workflow(family.workflow_id, family.row("f0")["taskId"])
    conductor.terminate_workflow(family.workflow_id)

    def be_late(*_: object) -> None:
        conductor.retry_workflow(family.workflow_id)
        family.run_all()
        raise Refused("Conductor", "retry", "it has completed")

    monkeypatch.setattr(ConductorWorkflows, "retry", be_late)
    with pytest.raises(Failure, match="Conductor refused"):
        operations.retry(family.servers, family.workflow_id)
    assert family.status == "COMPLETED"
    assert not family.plan().is_needed, "two publications of one step would be in effect"


def test_an_interrupted_rerun_is_refused_by_attempts_and_revoked(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.start(*FORK, f0=put("a"), f1=put("b"), f2=put("c"))
    family.run("f0", "f1")
    family.run("f2", report=TaskStatus.FAILED_WITH_TERMINAL_ERROR)

    rerun_without_an_answer(monkeypatch, family, None)
    assert family.tree() == {}

    family.services.conductor.retry_workflow(family.workflow_id)
    (record,) = family.run("f2")
    assert record.report is not None
    assert "Operation" in str(record.report.reason)
    assert f"perago undo {family.workflow_id}" in str(record.report.reason)
    family.services.conductor.terminate_workflow(family.workflow_id)
    assert family.undo().branches[0].revoked
    operations.retry(family.servers, family.workflow_id)
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "c": "x"})


@pytest.mark.parametrize("again", ["f0", "f1", None])
def test_a_workflow_whose_interrupted_rerun_was_revoked_can_be_rerun(
    family: Family, monkeypatch: pytest.MonkeyPatch, again: str | None
) -> None:
    family.start(step("f0"), step("f1", ref="${f0.output.workspace}"), f0=put("a"), f1=put("b"))
    family.run_all()
    rerun_without_an_answer(monkeypatch, family, "f1")
    assert family.tree() == {"a": "x"}
    family.undo()
    assert family.tree() == {"a": "x", "b": "x"}
    operations.rerun(family.servers, family.workflow_id, again)
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x"})
    assert not family.plan().is_needed


@pytest.mark.parametrize("passes_on", [False, True])
def test_a_rerun_of_a_sub_workflow_alone_leads_to_one_of_everything(family: Family, passes_on: bool) -> None:
    """The step after it is revived with an input that the rerun has undone, and no retry gets another one. A step that
    has passed the input on has not published it."""
    conductor = family.services.conductor
    conductor.register_task_definitions([{**build_task_definition(TASK), "retryCount": 0}])
    subs, block = list[dict[str, Any]](), BLOCK
    for name in ("f0", "f1"):
        output = {"workspace": f"${{{name}.output.workspace}}"}
        conductor.create_workflow_definition(flow(step(name), name=f"child of {name}", outputParameters=output))
        inputs = {"workspace": block, name: f"${{workflow.input.{name}}}"}
        child = {"name": f"child of {name}"}
        subs.append(operator("SUB_WORKFLOW", f"sub_{name}", subWorkflowParam=child, inputParameters=inputs))
        block = f"${{sub_{name}.output.workspace}}"
        if passes_on and name == "f0":
            subs.append(step("f2", ref=block))
            block = "${f2.output.workspace}"
    family.start(*subs, f0=put("a"), f1=put("b"), f2={})
    conductor.register_task_definitions([{**build_task_definition(TASK), "retryCount": 0}])
    between = ["f2"] if passes_on else []
    for name in ("f0", *between):
        family.run(name)
    family.run("f1", report=TaskStatus.FAILED_WITH_TERMINAL_ERROR)

    operations.rerun(family.servers, family.row("sub_f0")["subWorkflowId"], None)
    (record,) = family.run("f1")
    assert record.report is not None
    assert "is no longer in effect" in str(record.report.reason)
    assert str(record.report.reason).endswith(f"perago rerun {family.workflow_id}.")
    assert family.status == "FAILED"
    operations.rerun(family.servers, family.workflow_id, None)
    for name in ("f0", *between, "f1"):
        family.run(name)
    assert (family.status, family.tree(), family.in_effect()) == ("COMPLETED", {"a": "x", "b": "x"}, {"f0": 1, "f1": 1})


def test_an_interrupted_rerun_of_steps_with_the_same_bytes_is_revoked(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.start(*FORK, f0=put("a"), f1={"put": {"a": "x", "b": "x"}}, f2=put("c"))
    family.run_all()
    rerun_without_an_answer(monkeypatch, family, None)
    assert family.tree() == {}
    family.undo()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "c": "x"})


@pytest.mark.parametrize("operation", ["rerun", "rerun from a step", "retry"])
def test_a_step_that_writes_shared_bytes_again_completes(family: Family, operation: str) -> None:
    status = TaskStatus.FAILED_WITH_TERMINAL_ERROR if operation == "retry" else None
    family.start(step("f0"), f0=put("a"))
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": family.ref}
    family.run("f0", report=status)
    other = family.services.conductor.start_workflow("family", {"workspace": block, "f0": put("a")})
    family.run("f0")
    if operation == "retry":
        done = operations.retry(family.servers, family.workflow_id)
    else:
        done = operations.rerun(family.servers, family.workflow_id, "f0" if "step" in operation else None)
    assert done.undone == ()
    assert operation == "retry" or "others have published the same bytes" in done.warnings[0]
    family.run("f0")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x"})
    assert family.services.conductor.workflow(other)["status"] == "COMPLETED"


FROM_NEW_HEAD = "start the workflow from the new head: perago input workspace/main prints its input."


def test_what_others_share_stays_and_a_workflow_from_the_head_completes(family: Family) -> None:
    """The advice is followed."""
    family.start(step("f0"), f0=put("a"))
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": family.ref}
    family.run("f0")
    family.services.conductor.start_workflow("family", {"workspace": block, "f0": put("a")})
    family.run("f0")
    family.services.conductor.restart_workflow(family.workflow_id)
    family.services.conductor.terminate_workflow(family.workflow_id)
    with pytest.raises(Failure, match="others have published the same bytes") as refused:
        family.undo()
    assert refused.value.message.endswith(FROM_NEW_HEAD)
    assert refused.value.fix == ""
    head = family.services.lakefs.get_commit("workspace", "main").id
    family.workflow_id = family.services.conductor.start_workflow(
        "family", {"workspace": {**block, "ref": head}, "f0": put("b")}
    )
    family.run("f0")
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x"})


def test_a_rerun_before_a_step_with_shared_bytes_names_the_way_out(family: Family) -> None:
    """A step that runs again cannot undo what a later step shares. The advice is followed."""
    steps = step("f0"), step("f1", ref="${f0.output.workspace}")
    family.start(*steps, f0=put("a"), f1=put("b"))
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": family.ref}
    family.run_all()
    # It shares the bytes of the later step.
    family.services.conductor.start_workflow("family", {"workspace": block, "f0": put("b"), "f1": put("b")})
    family.run("f0")
    family.run("f1")
    done = operations.rerun(family.servers, family.workflow_id, "f0")
    assert "others have published the same bytes" in done.warnings[0]
    family.run("f0")
    reason = family.services.conductor.workflow(family.workflow_id)["reasonForIncompletion"]
    assert family.status == "FAILED"
    assert FROM_NEW_HEAD in reason
    head = family.services.lakefs.get_commit("workspace", "main").id
    family.workflow_id = family.services.conductor.start_workflow(
        "family", {"workspace": {**block, "ref": head}, "f0": put("c"), "f1": put("d")}
    )
    family.run_all()
    assert (family.status, family.tree()) == ("COMPLETED", {"a": "x", "b": "x", "c": "x", "d": "x"})


def test_undo_leaves_other_workflows_on_the_branch_alone(family: Family) -> None:
    family.start(step("f0"), f0=put("a"))
    family.run_all()
    ended, ref = family.workflow_id, family.ref
    family.start(step("f0"), step("f1", ref="${f0.output.workspace}"), f0=put("b"), f1=put("c"))
    family.run("f0")
    staging = plan_branch(family.workflow_id)
    head = family.services.lakefs.get_commit("workspace", "main")
    family.services.lakefs.create_branch("workspace", staging, head.id)
    family.workflow_id = ended
    plan = family.undo()
    assert not plan.is_needed
    assert [commit.workflow_id for branch in plan.branches for commit in branch.commits] == [ended]
    assert family.services.lakefs.list_branches("workspace", "perago-") == (staging,)
    assert family.services.lakefs.history("workspace", "main", until=ref, limit=9)[0] == head


def test_a_commit_that_was_cherry_picked_is_not_said_to_be_missing(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lakeFS 1.84 no longer finds such a commit by its id, and finds it again after a restart."""
    family.start(step("f0"), f0=put("a"))
    family.run_all()
    lakefs = family.services.lakefs
    lost = lakefs.get_commit("workspace", "main").parents[1]
    family.services.conductor.rerun_workflow(family.workflow_id, family.row("f0")["taskId"])
    get_commit = lakefs.get_commit

    def lose(repository: str, ref: str) -> Commit:
        if ref == lost:
            raise NotFound("lakeFS", f"read commit {ref}", f"commit {ref} does not exist")
        return get_commit(repository, ref)

    with monkeypatch.context() as patch:
        patch.setattr(lakefs, "get_commit", lose)
        (record,) = family.run("f0", report=TaskStatus.FAILED)
    assert record.report is not None
    assert f"does not find commit {lost} by its id, but the log of the branch has it" in str(record.report.reason)
    assert "does not exist" not in str(record.report.reason)
    family.run("f0")
    assert (family.status, family.tree(), family.in_effect()) == ("COMPLETED", {"a": "x"}, {"f0": 1})


def test_undo_waits_for_open_attempts_and_says_what_counts(family: Family) -> None:
    family.start(step("f0"), step("f1", ref="${f0.output.workspace}"), f0=put("a"), f1=put("b"))
    family.run("f0")
    with pytest.raises(Failure, match="1 open attempt: 'f1 of") as refused:
        family.undo()
    assert refused.value.fix.endswith("--terminate")
    family.services.conductor.terminate_workflow(family.workflow_id)
    plan = family.undo()
    assert [(commit.step, commit.standing) for commit in plan.branches[0].commits] == [("f0", "counts")]
    assert not plan.is_needed
    family.services.conductor.restart_workflow(family.workflow_id)
    family.services.conductor.terminate_workflow(family.workflow_id)
    assert [(commit.step, commit.standing) for commit in family.undo().branches[0].commits] == [
        ("f0", "does not count")
    ]
    assert family.tree() == {}
    (head, *_) = family.services.lakefs.history("workspace", "main", until=family.ref, limit=9)
    assert (head.metadata["perago.reason"], head.metadata["perago.format"]) == ("to try", "2")


def test_undo_shuts_out_the_late_merge_of_a_staging_branch(family: Family) -> None:
    family.start(step("f0"), f0=put("a"))
    family.services.lakefs.create_branch(
        "workspace", plan_branch(family.workflow_id), family.services.lakefs.get_commit("workspace", "main").id
    )
    family.services.conductor.terminate_workflow(family.workflow_id)
    plan = family.undo()
    assert plan.branches[0].leftovers == (plan_branch(family.workflow_id),)
    (head,) = family.services.lakefs.history("workspace", "main", until=family.ref, limit=9)
    assert head.metadata["perago.phase"] == "fence"
    assert not family.services.lakefs.list_branches("workspace", "perago-")


def plan_branch(workflow_id: str) -> str:
    from perago.attempt.publication import staging_prefix

    return staging_prefix(f"{workflow_id}:f0:{TASK.name}") + "0123456789ab"
