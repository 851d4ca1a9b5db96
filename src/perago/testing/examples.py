"""Whether a declared case can still be what it says: its params, its result, and its tree under its own guardrails."""

from __future__ import annotations

from collections.abc import Mapping

from perago.authoring import Task, WorkspaceSpec
from perago.authoring.guardrails import Listing
from perago.guardrails.evaluation import Phase, evaluate
from perago.taskdef.payload import InvalidInput, InvalidResult, check_recorded_result, parse_input
from perago.taskdef.schema import output_schema
from perago.taskdef.schema_check import schema_problem
from perago.testing.building import sizes_of
from perago.testing.casefiles import BrokenCase, RunCase, case_of_example, read_tree
from perago.testing.failures import CaseFailed, Cause

_WORKSPACE = {"repository": "repository", "branch": "main", "ref_type": "commit", "ref": "0" * 64}


def review(task: Task) -> tuple[str, list[str]]:
    """For `perago check`: what is wrong with the declared examples, empty if nothing is, and advice on the task."""
    problems = []
    for example in task.examples:
        try:
            check_case(task, case_of_example(task, example))
        except CaseFailed as failure:
            problems.append(f"task {task.name!r}: {str(failure).partition(': ')[2]}")
    model = task.params_model
    ignores = model.model_config.get("extra") not in ("allow", "forbid")
    advice = (
        f"{model.__name__} ignores keys that it does not know, so a misspelt one changes nothing; "
        f'refuse them with: class {model.__name__}(BaseModel, extra="forbid")'
    )
    return "\n".join(problems), [advice] if ignores else []


def check_case(task: Task, case: RunCase) -> None:
    """Check a case without running the task.

    Raises:
        CaseFailed: its params or result no longer validate, or its tree breaks the task's own rules.
    """
    params_are_valid = _check_params(task, case)
    if case.result is not None:
        _check_result(task, case)
    tree = _tree(case)
    if task.workspace is None:
        if tree or case.expect in ("pre", "post"):
            raise CaseFailed(
                Cause.MISTAKE,
                f"{case.label!r} has {'a tree' if tree else f'expect={case.expect!r}'}, but the task has no workspace",
            )
    elif params_are_valid:
        _check_tree(task.workspace, case, tree)


def _check_params(task: Task, case: RunCase) -> bool:
    payload = {"params": dict(case.params)}
    try:
        found = parse_input(task, payload if task.workspace is None else {**payload, "workspace": _WORKSPACE})
    except InvalidInput as error:
        if case.expect == "terminal":
            return False
        raise CaseFailed(
            Cause.CONTRACT,
            f"the params of {case.label!r} are not valid",
            facts=[("expected", f"a valid {task.params_model.__name__}"), ("actual", "\n".join(error.problems))],
        ) from None
    if found.ignored:  # the case tests something else than it says
        raise CaseFailed(
            Cause.MISTAKE,
            f"the params of {case.label!r} set what {task.params_model.__name__} ignores",
            facts=[
                ("ignored", "\n".join(found.ignored)),
                ("fix", 'correct or remove it; with ConfigDict(extra="forbid") a workflow that sends it fails, too'),
            ],
        )
    return True


def _check_result(task: Task, case: RunCase) -> None:
    try:
        check_recorded_result(task, case.result)
        problem = schema_problem(output_schema(task)["properties"]["result"], case.result)
    except InvalidResult as error:
        problem = str(error)
    if problem is not None:
        raise CaseFailed(
            Cause.CONTRACT,
            f"the result of {case.label!r} is not valid",
            facts=[("expected", f"a valid {task.result_model.__name__}"), ("actual", problem)],
        )


def _tree(case: RunCase) -> Mapping[str, str | bytes | None]:
    try:
        return read_tree(case.tree)
    except BrokenCase as error:
        raise CaseFailed(Cause.MISTAKE, f"{case.label!r}: {error}") from None


def _check_tree(spec: WorkspaceSpec, case: RunCase, tree: Mapping[str, str | bytes | None]) -> None:
    directories = [path for path, content in tree.items() if content is None]
    found = evaluate(spec.pre, Listing(sizes_of(tree), directories), phase=Phase.PRE)
    violated = [finding.message for finding in found if not finding.satisfied]
    if case.expect == "pre" and not violated:
        raise CaseFailed(
            Cause.RULE,
            f"{case.label!r} expects a pre guardrail to be violated, but its tree satisfies all",
            facts=[("rule", str(rule)) for rule in spec.pre] or [("rule", "there is none")],
            tree=tree,
        )
    if case.expect != "pre" and violated:
        raise CaseFailed(
            Cause.RULE,
            f"the tree of {case.label!r} breaks the task's own guardrails",
            facts=[("expected", f"{case.expect}, after all pre guardrails are satisfied")]
            + [("rule", message) for message in violated],
            tree=tree,
        )
