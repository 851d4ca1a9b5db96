"""The input that comes from Conductor, and the forms of `workspace.ref` in it."""

from __future__ import annotations

import enum
import hashlib
import pickle
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from perago.taskdef.payload import InvalidInput, WorkspaceInput, params_sha256, parse_head_request, parse_input
from perago.taskdef.schema import input_schema, output_schema, schema_problem

from .tasks import Empty, make_task

COMMIT = "0123456789abcdef" * 4
REPOSITORY_RULE = "3 to 63 lower-case letters, digits and dashes that does not begin with a dash"
BRANCH_RULE = "letters, digits, underscores and dashes that does not begin with a dash"
WORKSPACE = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": COMMIT}
CANARY = "canary-4711"
UNPARSABLE = "Input should be a valid integer, unable to parse string as an integer"


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in WORKSPACE.items() if name != key}


def sent(**changes: Any) -> dict[str, Any]:
    """Return the input of a task with a workspace, of which some fields are replaced."""
    return {"workspace": WORKSPACE | changes, "params": {}}


def parse(params: Any, model: type[BaseModel]) -> BaseModel:
    return parse_input(make_task(model), {"params": params}).params


def problems_of(payload: Any, model: type[BaseModel] = Empty, *, workspace: bool = False) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as caught:
        parse_input(make_task(model, workspace=workspace), payload)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def test_the_older_spelling_is_accepted_and_remembered() -> None:
    block = without("ref_type") | {"refType": "commit"}
    parsed = parse_input(make_task(workspace=True), {"workspace": block, "params": {}})
    assert parsed.workspace == WorkspaceInput("data", "main", (COMMIT,), "refType")
    assert parsed.params == Empty()


def test_a_task_without_a_workspace_has_params_only() -> None:
    assert parse_input(make_task(), {"params": {}}).workspace is None


NO_NAME = "; lakeFS allows no other names"
WRONG_NAMES = [
    (key, name, [f"/workspace/{key}: must be a name of {rule}, not {name!r}{NO_NAME}"])
    for key, rule in (("repository", REPOSITORY_RULE), ("branch", BRANCH_RULE))
    for name in ("..", "a/b", "\udc80ab", "-ab", "abc\n", "", " ", "a b c", 3)
]
ENVELOPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "empty": ({}, ["/workspace: is missing", "/params: is missing"]),
    "no workspace": ({"params": {}}, ["/workspace: is missing"]),
    "no params": ({"workspace": WORKSPACE}, ["/params: is missing"]),
    "unknown key": (sent() | {"a/b": 1}, ["/a~1b: is unknown; task 'sample' takes workspace and params"]),
    "null": ({"workspace": None, "params": {}}, ["/workspace: must be an object, not NoneType"]),
    "list": ({"workspace": [], "params": {}}, ["/workspace: must be an object, not list"]),
    **{
        f"no {key}": ({"workspace": without(key), "params": {}}, [f"/workspace/{key}: is missing"])
        for key in ("ref", "ref_type", "branch")
    },
    "both spellings": (
        sent(refType="commit"),
        ["/workspace/refType: is sent together with ref_type; send only one of them"],
    ),
    "unknown workspace key": (
        sent(prefix="/"),
        ["/workspace/prefix: is unknown; the workspace has repository and branch and ref_type and ref"],
    ),
    "branch as type": (
        sent(ref_type="branch"),
        ["/workspace/ref_type: must be 'commit', not 'branch'; only commits are immutable"],
    ),
    **{f"{name!r} as {key}": (sent(**{key: name}), problems) for key, name, problems in WRONG_NAMES},
}


@pytest.mark.parametrize(("payload", "problems"), ENVELOPES.values(), ids=ENVELOPES)
def test_a_wrong_envelope_is_reported_key_by_key(payload: dict[str, Any], problems: list[str]) -> None:
    assert list(problems_of(payload, workspace=True)) == problems


@pytest.mark.parametrize(
    "ref", ["main", "", COMMIT[:63], COMMIT + "0", COMMIT.upper(), f"{COMMIT}\n", f" {COMMIT}", "g" * 64, None, 3, True]
)
def test_a_ref_must_be_a_full_commit_id(ref: object) -> None:
    (problem,) = problems_of(sent(ref=ref), workspace=True)
    assert problem.startswith("/workspace/ref: must be a full commit id")
    assert len(problem) < 300


def test_a_task_without_a_workspace_accepts_no_workspace() -> None:
    assert problems_of({"workspace": WORKSPACE, "params": {}}) == (
        "/workspace: is unknown; task 'sample' takes params",
    )


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    n: int


class Cat(BaseModel):
    kind: Literal["cat"]
    age: int


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int


@dataclass
class Record:
    n: int


class Params(BaseModel):
    n: int = 0
    strict: int = Field(0, strict=True)
    text: str = ""
    when: datetime | None = None
    price: Decimal = Decimal(0)
    raw: bytes = b""
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    tags: set[str] = set()
    pair: tuple[int, str] = (0, "")
    inner: Inner | None = None
    inners: list[Inner] = []
    table: dict[str, int] = {}
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    either: int | Inner = 0
    record: Record | None = None
    named: int = Field(0, alias="wireName")
    chosen: int = Field(0, validation_alias=AliasChoices("first", "second"))
    deep: int = Field(0, validation_alias=AliasPath("nest", 0))
    ident: UUID | None = None
    secret: SecretStr = SecretStr("")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int = 0


@pytest.mark.parametrize(
    ("params", "field", "value"),
    [
        ({"n": "3"}, "n", 3),
        ({"n": 10**30}, "n", 10**30),
        ({"text": "größe \u2028 \U0001f600"}, "text", "größe \u2028 \U0001f600"),
        ({"when": "2024-02-29T12:00:00"}, "when", datetime(2024, 2, 29, 12)),  # noqa: DTZ001
        ({"price": "1.10"}, "price", Decimal("1.10")),
        ({"raw": "bytes"}, "raw", b"bytes"),
        ({"colour": "red"}, "colour", Colour.RED),
        ({"tags": ["a", "a"]}, "tags", {"a"}),
        ({"pair": [1, "x"]}, "pair", (1, "x")),
        ({"record": {"n": 1}}, "record", Record(1)),
        ({"wireName": 4}, "named", 4),
        ({"second": 5}, "chosen", 5),
        ({"nest": [6]}, "deep", 6),
        ({"unknown": 1}, "n", 0),
    ],
)
def test_params_are_validated_as_json(params: dict[str, Any], field: str, value: object) -> None:
    assert getattr(parse(params, Params), field) == value


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        pytest.param({"n": None}, "/params/n: Input should be a valid integer", id="null"),
        pytest.param({"strict": "1"}, "/params/strict: Input should be a valid integer", id="strict"),
        pytest.param({"inner": {}}, "/params/inner/n: Field required", id="missing"),
        pytest.param({"inners": [{"n": 1}, {"n": "x"}]}, f"/params/inners/1/n: {UNPARSABLE}", id="list"),
        pytest.param({"table": {"a/b~c": "x"}}, f"/params/table/a~1b~0c: {UNPARSABLE}", id="escaped key"),
        pytest.param({"pet": {"kind": "cat"}}, "/params/pet/age: Field required", id="missing in a branch"),
        pytest.param({"pet": {"kind": CANARY}}, "/params/pet: 'kind' is not one of 'cat', 'dog'", id="unknown branch"),
        pytest.param({"pet": {}}, "/params/pet: Unable to extract tag using discriminator 'kind'", id="no branch"),
        pytest.param({"mode": CANARY}, "/params/mode: Input should be 'a' or 'b'", id="literal"),
        pytest.param({"wireName": CANARY}, f"/params/wireName: {UNPARSABLE}", id="alias"),
        pytest.param({"ident": CANARY}, "/params/ident: is not valid (uuid_parsing)", id="uuid"),
        pytest.param({"pair": [1]}, "/params/pair/1: Field required", id="short tuple"),
        pytest.param([], "/params: Input should be an object", id="list instead of an object"),
        pytest.param(None, "/params: Input should be an object", id="null instead of an object"),
        pytest.param(CANARY, "/params: Input should be an object", id="text instead of an object"),
    ],
)
def test_a_wrong_param_is_one_line_with_its_pointer_and_without_its_value(params: Any, problem: str) -> None:
    problems = problems_of({"params": params}, Params)
    assert problems == (problem,)
    assert CANARY not in problem


def test_all_wrong_params_are_reported_once() -> None:
    problems = problems_of({"params": {"n": "x", "either": "x", "text": 3}}, Params)
    assert [problem.partition(":")[0] for problem in problems] == [
        "/params/n",
        "/params/text",
        "/params/either",
        "/params/either",
    ]
    assert len(set(problems)) == len(problems)


def test_unknown_params_are_refused_if_the_model_forbids_them() -> None:
    assert problems_of({"params": {"m": 1}}, Closed) == ("/params/m: Extra inputs are not permitted",)
    (meant,) = problems_of({"params": {"nn": 1}}, Closed)
    assert meant == "/params/nn: Extra inputs are not permitted; did you mean 'n'?"


def test_a_flood_of_problems_is_cut_and_counted() -> None:
    problems = problems_of({"params": {"inners": [{}] * 1000}}, Params)
    assert len(problems) == 51
    assert problems[-1] == "and 950 more problems"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"n": float("nan")}, id="NaN"),
        pytest.param({"n": float("inf")}, id="infinity"),
        pytest.param({"n": Path("x")}, id="an object"),
        pytest.param({"n": {1, 2}}, id="a set"),
    ],
)
def test_values_that_json_cannot_carry_are_not_an_input(params: Any) -> None:
    (problem,) = problems_of({"params": params}, Params)
    assert problem.startswith("/params: is not JSON")


def test_half_a_surrogate_pair_is_not_an_input() -> None:
    (problem,) = problems_of({"params": {"text": "\ud800"}}, Params)
    assert problem.startswith("/params: Invalid JSON")


class Picky(BaseModel):
    name: str = ""
    number: int = 0
    crash: int = 0

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name:
            raise ValueError(f"{name!r} is not a\nknown name")
        return name

    @field_validator("crash")
    @classmethod
    def crashing(cls, crash: int) -> int:
        if crash:
            raise RuntimeError(f"value {crash}")
        return crash

    @model_validator(mode="after")
    def consistent(self) -> Picky:
        if self.number:
            raise AssertionError(f"number {self.number} is wrong")
        return self


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"name": CANARY}, "/params/name: '…' is not a known name"),
        ({"number": 4711}, "/params: number … is wrong"),
        ({"crash": 4711}, "/params: a validator of Picky raised RuntimeError"),
    ],
)
def test_the_texts_of_the_authors_validators_are_kept_without_values(params: dict[str, Any], problem: str) -> None:
    assert problems_of({"params": params}, Picky) == (problem,)


def test_the_params_do_not_show_in_the_repr() -> None:
    parsed = parse_input(make_task(Params), {"params": {"text": CANARY}})
    assert CANARY not in repr(parsed)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [1, 2], "x": 1}}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ({"a": "ä"}, {"a": "a\u0308"}, False),
    ],
)
def test_the_hash_of_params_does_not_depend_on_the_order_of_keys(left: Any, right: Any, same: bool) -> None:
    assert (params_sha256(left) == params_sha256(right)) is same


def test_the_hash_is_the_one_of_the_params_as_sent() -> None:
    parsed = parse_input(make_task(Params), {"params": {"text": "ä", "n": "3"}})
    text = b'{"n":"3","text":"\\u00e4"}'
    assert parsed.params_sha256 == hashlib.sha256(text).hexdigest()


def test_an_input_error_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(InvalidInput(("a", "b")))).problems == ("a", "b")


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"head_of": "science/main"}, "/head_of: must be an object, not str"),
        ({"head_of": None}, "/head_of: must be an object, not NoneType"),
        ({"head_of": {"repository": "science"}}, "/head_of/branch: is missing"),
        ({"head_of": {"repository": "science", "branch": "main~1"}}, "/head_of/branch: must be a name of"),
        ({"head_of": {"repository": "science", "branch": ["main"]}}, "/head_of/branch: must be a name of"),
        ({"head_of": {"repository": "../x", "branch": "main"}}, "/head_of/repository: must be a name of"),
        ({"head_of": {"repository": "science", "branch": "main", "ref": "a"}}, "/head_of/ref: is unknown"),
        ({"head_of": {"repository": "science", "branch": "main"}, "params": {}}, "/params: is unknown"),
    ],
)
def test_a_request_for_the_newest_commit_is_checked_strictly(payload: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_head_request(payload)
    assert raised.value.problems[0].startswith(problem)


# ---------------------------------------------------------------------- the forms of workspace.ref


TASK = make_task(workspace=True)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def output(ref: Any = A, repository: str = "data", **more: Any) -> dict[str, Any]:
    """What a task with a workspace puts out."""
    return {"workspace": WORKSPACE | {"repository": repository, "ref": ref}, "result": {"n": 1}, **more}


SHARED = {"workspace": {"ref": "main"}}
REFS = {
    "one commit": (A, (A,)),
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
        {"left": output(A), **{key: {"workspace": without(key)} for key in ("repository", "branch", "ref_type")}},
        (A,),
    ),
    "a block with a key of its own": ({"left": output(A), "x": {"workspace": {**WORKSPACE, "path": "x"}}}, (A,)),
    "a block that names a branch": ({"left": output(A), "x": {"workspace": {**WORKSPACE, "ref_type": "branch"}}}, (A,)),
    "refType": ({"left": {"workspace": without("ref_type") | {"refType": "commit", "ref": A}}}, (A,)),
}


@pytest.mark.parametrize(("ref", "commits"), REFS.values(), ids=REFS.keys())
def test_a_ref_may_give_several_commits(ref: Any, commits: tuple[str, ...]) -> None:
    parsed = parse_input(TASK, sent(ref=ref))
    assert parsed.workspace == WorkspaceInput("data", "main", commits, "ref_type")
    assert schema_problem(input_schema(TASK), sent(ref=ref)) is None


FULL = "must be a full commit id (64 hexadecimal digits, lower case)"
NOTHING = "names no commit: it is empty, or has no complete workspace block (repository, branch, ref_type, ref)"
BAD_REFS = {
    "an empty list": ([], "/workspace/ref", NOTHING),
    "nulls only": ([None, None], "/workspace/ref", NOTHING),
    "an empty map": ({}, "/workspace/ref", NOTHING),
    "a join of tasks without a workspace": ({"left": {"result": {"n": "secret"}}}, "/workspace/ref", NOTHING),
    "a join of blocks that are not complete": ({"left": {"workspace": without("branch")}}, "/workspace/ref", NOTHING),
    "a branch in a list": ([A, "main"], "/workspace/ref/1", FULL),
    "upper case in a list": ([A, B.upper()], "/workspace/ref/1", FULL),
    "an abbreviated id in a list": ([A[:12]], "/workspace/ref/0", FULL),
    "a list in a list": ([A, [B]], "/workspace/ref/1", f"{FULL}, not list"),
    "a branch in an output": (
        {"a/b": output("secret branch")},
        "/workspace/ref/a~1b/workspace/ref",
        f"{FULL}, not str",
    ),
    "two repositories": (
        {"left": output(A), "right": output(B, "other")},
        "/workspace/ref/right/workspace/ref",
        "belongs to another repository than 'data'; commits of two repositories cannot be joined",
    ),
}


@pytest.mark.parametrize(("ref", "pointer", "message"), BAD_REFS.values(), ids=BAD_REFS.keys())
def test_errors_about_several_commits_name_the_place(ref: Any, pointer: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_input(TASK, sent(ref=ref))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{pointer}: {message}")
    assert "secret" not in problem


def test_the_output_of_a_task_is_one_commit() -> None:
    schema = output_schema(TASK)["properties"]["workspace"]
    assert schema_problem(schema, output(A)["workspace"]) is None
    assert schema_problem(schema, output([A])["workspace"]) is not None


@pytest.mark.parametrize("ref", ["main", A[:12], A.upper(), [], ["main"], [[A]], {}, None, 3], ids=repr)
def test_the_schema_refuses_values_that_cannot_be_a_commit(ref: Any) -> None:
    assert schema_problem(input_schema(TASK), sent(ref=ref)) is not None
