"""The forms of `workspace.ref`."""

from __future__ import annotations

from typing import Any

import pytest

from perago.taskdef.payload import InvalidInput, WorkspaceInput, parse_input
from perago.taskdef.schema import input_schema, output_schema, schema_problem

from .tasks import Empty, make_task

TASK = make_task(Empty, workspace=True)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def output(ref: Any = A, repository: str = "data", **more: Any) -> dict[str, Any]:
    """What a task with a workspace puts out."""
    block = {"repository": repository, "branch": "main", "ref_type": "commit", "ref": ref}
    return {"workspace": block, "result": {"n": 1}, **more}


def payload(ref: Any) -> dict[str, Any]:
    """What Conductor sends."""
    return {"workspace": {"repository": "data", "branch": "main", "ref_type": "commit", "ref": ref}, "params": {}}


BLOCK = output(B)["workspace"]


def without(key: str) -> dict[str, Any]:
    """A block that is not complete."""
    return {name: value for name, value in BLOCK.items() if name != key}


SHARED = {"workspace": {"ref": "main"}}
REFS = {
    "a list": ([A, B], (A, B)),
    "a list of one": ([A], (A,)),
    "a list with a duplicate": ([A, B, A], (A, B)),
    "a list with null, of an optional task that failed": ([None, A], (A,)),
    "500 entries": ([A, B] * 250, (A, B)),
    "a list with the output of an inner join": ([A, {"left": output(B), "right": output(C)}], (A, B, C)),
    "the output of a join": ({"left": output(A), "right": output(B)}, (A, B)),
    "a sibling that changed nothing": ({"left": output(A), "right": output(A)}, (A,)),
    "siblings without a workspace, and without an output": ({"l": output(A), "r": {"result": {}}, "o": {}}, (A,)),
    "a sibling with a null ref": ({"left": output(A), "right": output(None)}, (A,)),
    "nested joins": ({"left": output(A), "join": {"left": output(B), "deep": {"x": output(C)}}}, (A, B, C)),
    "the output of a loop": (
        {"1": {"fork": {}, "join": {"a": output(A)}}, "2": {"a": output(B)}, "iteration": 2},
        (A, B),
    ),
    "a sub-workflow that hands on a join": ({"sub": output({"left": output(A), "right": output(B)})}, (A, B)),
    "a sub-workflow that hands on a list": ({"sub": output([A, B])}, (A, B)),
    "a sub-workflow with its own keys": ({"sub": {"done": [output(A)], "workspace": None}}, (A,)),
    "a task of the reference name workspace": ({"workspace": output(A), "result": output(B)}, (A, B)),
    "a result of that form, which is the author's": ({"left": output(A) | {"result": SHARED}}, (A,)),
    "a step that is not perago's": (
        {"left": output(A), "http": {"response": {"body": {"workspace": {"ref": B}}}}},
        (A,),
    ),
    "blocks that are not complete": (
        {
            "left": output(A),
            **{f"no {key}": {"workspace": without(key)} for key in ("repository", "branch", "ref_type")},
        },
        (A,),
    ),
    "a block with a key of its own": ({"left": output(A), "x": {"workspace": {**BLOCK, "path": "x"}}}, (A,)),
    "a block that names a branch": ({"left": output(A), "x": {"workspace": {**BLOCK, "ref_type": "branch"}}}, (A,)),
    "refType": ({"left": {"workspace": {"repository": "data", "branch": "main", "refType": "commit", "ref": A}}}, (A,)),
}


@pytest.mark.parametrize(("ref", "commits"), REFS.values(), ids=REFS.keys())
def test_a_ref_may_give_several_commits(ref: Any, commits: tuple[str, ...]) -> None:
    parsed = parse_input(TASK, payload(ref))
    assert parsed.workspace == WorkspaceInput("data", "main", commits, "ref_type")
    assert schema_problem(input_schema(TASK), payload(ref)) is None


NOTHING = "names no commit: it is empty, or has no complete workspace block (repository, branch, ref_type, ref)"
BAD_REFS = {
    "an empty list": ([], "/workspace/ref", NOTHING),
    "nulls only": ([None, None], "/workspace/ref", NOTHING),
    "an empty map": ({}, "/workspace/ref", NOTHING),
    "a join of tasks without a workspace": ({"left": {"result": {"n": "secret"}}}, "/workspace/ref", NOTHING),
    "a join of blocks that are not complete": ({"left": {"workspace": without("branch")}}, "/workspace/ref", NOTHING),
    "a branch in a list": ([A, "main"], "/workspace/ref/1", "must be a full commit id"),
    "upper case in a list": ([A, B.upper()], "/workspace/ref/1", "must be a full commit id"),
    "an abbreviated id in a list": ([A[:12]], "/workspace/ref/0", "must be a full commit id"),
    "a list in a list": (
        [A, [B]],
        "/workspace/ref/1",
        "must be a full commit id (64 hexadecimal digits, lower case), not list",
    ),
    "a branch in an output": (
        {"a/b": output("secret branch")},
        "/workspace/ref/a~1b/workspace/ref",
        "must be a full commit id (64 hexadecimal digits, lower case), not str",
    ),
    "two repositories": (
        {"left": output(A), "right": output(B, "other")},
        "/workspace/ref/right/workspace/ref",
        "belongs to another repository than 'data'; commits of two repositories cannot be joined",
    ),
}


@pytest.mark.parametrize(("ref", "pointer", "words"), BAD_REFS.values(), ids=BAD_REFS.keys())
def test_errors_about_several_commits_name_the_place(ref: Any, pointer: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_input(TASK, payload(ref))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{pointer}: {words}")
    assert "secret" not in problem


def test_the_output_of_a_task_is_one_commit() -> None:
    schema = output_schema(TASK)["properties"]["workspace"]
    assert schema_problem(schema, output(A)["workspace"]) is None
    assert schema_problem(schema, output([A])["workspace"]) is not None


@pytest.mark.parametrize("ref", ["main", A[:12], A.upper(), [], ["main"], [[A]], {}, None, 3], ids=repr)
def test_the_schema_refuses_values_that_cannot_be_a_commit(ref: Any) -> None:
    assert schema_problem(input_schema(TASK), payload(ref)) is not None
