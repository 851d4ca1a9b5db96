"""What Conductor hands to a task: reading and checking it (docs/design/contract.md 4).

Everything passes through JSON text, so that a test sees exactly what the wire would do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from perago.authoring import Task
from perago.taskdef.problems import TOO_DEEP, ignored_keys, join_pointer, problem_lines
from perago.taskdef.refs import commits_of, shown
from perago.taskdef.result import InvalidResult, check_recorded_result, dump_result

__all__ = [
    "InvalidInput",
    "InvalidResult",
    "TaskInput",
    "WorkspaceInput",
    "check_recorded_result",
    "dump_result",
    "name_problem",
    "parse_input",
]

_NAMES = {
    "repository": (
        re.compile(r"[a-z0-9][a-z0-9-]{2,62}"),
        "3 to 63 lower-case letters, digits and dashes that does not begin with a dash",
    ),
    "branch": (
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*"),
        "letters, digits, underscores and dashes that does not begin with a dash",
    ),
}
"""What lakeFS accepts (`docs/servers/lakefs.md` 2)."""

RefKey: TypeAlias = Literal["ref_type", "refType"]


class InvalidInput(Exception):
    """The input can never succeed.

    `problems` has one line for each thing that is wrong: a JSON pointer and a reason, without values of params.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


@dataclass(frozen=True, slots=True)
class WorkspaceInput:
    """The workspace block: an immutable commit to read and the branch that success advances."""

    repository: str
    branch: str
    refs: tuple[str, ...]
    """One commit, or several of which one continues the others; each once."""
    ref_key: RefKey
    """How the input spells its `ref_type`; the output uses the same spelling."""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A valid input. `params_sha256` identifies the parameters as they were sent.

    `ignored` has the keys of the params that their model passed over, as JSON pointers, with what was meant perhaps.
    """

    workspace: WorkspaceInput | None
    params: BaseModel = field(repr=False)
    params_sha256: str
    ignored: tuple[str, ...] = ()


def parse_input(task: Task, payload: Mapping[str, Any]) -> TaskInput:
    """Check an input from Conductor against the task.

    Raises:
        InvalidInput: with all that is wrong.
    """
    keys = ("workspace", "params") if task.workspace is not None else ("params",)
    problems = list(_key_problems(payload, keys, f"task {task.name!r} takes"))
    workspace, params = None, None
    if "workspace" in keys and "workspace" in payload:
        workspace = _parse_workspace(payload["workspace"], problems)
    if "params" in payload:
        params = _parse_params(task, payload["params"], problems)
    if problems or params is None:
        raise InvalidInput(tuple(problems))
    sent, ignored = payload["params"], tuple[str, ...]()
    # A property of the author's model may fail in any way, and this is only advice.
    with contextlib.suppress(Exception):
        ignored = tuple(ignored_keys(sent, params))
    return TaskInput(workspace, params, params_sha256(sent), ignored)


def params_sha256(params: Any) -> str:
    """Hex digest of the canonical JSON of parameters as sent: keys sorted, no blanks, ASCII."""
    text = json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _key_problems(found: Mapping[str, Any], keys: tuple[str, ...], takes: str, parent: str = "") -> Iterator[str]:
    for key in keys:
        if key not in found:
            yield f"{join_pointer(parent, key)}: is missing"
    for key in found:
        if key not in keys:
            yield f"{join_pointer(parent, key)}: is unknown; {takes} {' and '.join(keys)}"


def _parse_params(task: Task, params: Any, problems: list[str]) -> BaseModel | None:
    try:
        text = json.dumps(params, allow_nan=False)
    except RecursionError:
        problems.append(f"/params: {TOO_DEEP}")
        return None
    except (TypeError, ValueError) as error:
        problems.append(f"/params: is not JSON ({type(error).__name__})")
        return None
    try:
        return task.params_model.model_validate_json(text)
    except ValidationError as error:
        problems.extend(problem_lines(error, json.loads(text), "/params"))
    except Exception as error:  # noqa: BLE001 - a validator of the author may fail in any way
        problems.append(f"/params: a validator of {task.params_model.__name__} raised {type(error).__name__}")
    return None


def _parse_workspace(block: Any, problems: list[str]) -> WorkspaceInput | None:
    if not isinstance(block, Mapping):
        problems.append(f"/workspace: must be an object, not {type(block).__name__}")
        return None
    ref_key: RefKey = "refType" if "refType" in block and "ref_type" not in block else "ref_type"
    found = list(_workspace_problems(block, ref_key))
    refs = commits_of(block["ref"], block.get("repository"), found) if "ref" in block else ()
    problems.extend(found)
    if found:
        return None
    return WorkspaceInput(block["repository"], block["branch"], refs, ref_key)


def name_problem(kind: str, name: object) -> str | None:
    """Why lakeFS cannot have a `repository` or a `branch` of that name."""
    pattern, rule = _NAMES[kind]
    if isinstance(name, str) and pattern.fullmatch(name):
        return None
    return f"must be a name of {rule}, not {shown(name)}; lakeFS has no other names"


def _workspace_problems(block: Mapping[str, Any], ref_key: RefKey) -> Iterator[str]:
    keys = ("repository", "branch", ref_key, "ref")
    if "ref_type" in block and "refType" in block:
        yield "/workspace/refType: stands beside ref_type; send one of them"
        block = {key: value for key, value in block.items() if key != "refType"}
    yield from _key_problems(block, keys, "the workspace has", "/workspace")
    for key in _NAMES:
        if key in block and (problem := name_problem(key, block[key])):
            yield f"/workspace/{key}: {problem}"
    if ref_key in block and block[ref_key] != "commit":
        yield f"/workspace/{ref_key}: must be 'commit', not {shown(block[ref_key])}; nothing else is immutable"
