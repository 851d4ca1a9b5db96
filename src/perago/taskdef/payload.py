"""The input that Conductor passes to a task and the result that the task returns: reading, validation, conversion to
JSON.

The messages are made from pydantic's validation errors, and from the keys that a model silently ignores.

A result must survive JSON: the declared model writes it and must be able to read it again, field by field. Computed
fields and aliases can do that. A serializer whose output its own model refuses cannot.

Everything goes through JSON text, so a test sees the same values as production.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    PlainValidator,
    RootModel,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError
from pydantic_core.core_schema import ErrorType

from perago.authoring import Task
from perago.taskdef.schema import join_pointer, output_schema, schema_problems

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MOST_PROBLEMS = 50
"""The number of listed lines. The others are counted."""

TOO_DEEP = "is nested too deeply: about 200 levels can be read. Flatten it, or put it into a file"
"""The end of messages about an input or a result. pydantic's reader has that limit; Python's limit is about 1,000
levels."""

_WORDED_BY_PYDANTIC = frozenset(typing.get_args(ErrorType)) - {"value_error", "assertion_error"}
_QUOTING_THE_INPUT = frozenset({"uuid_parsing", "timezone_offset", "bytes_invalid_encoding"})
_LONGEST_REASON = 200


def problem_lines(
    error: ValidationError, document: Any, root: str, model: type[BaseModel] | None = None
) -> tuple[str, ...]:
    """Return one line for each error, without repetition.

    `document` is the validated JSON value, and `root` the pointer to it. The keys of `model` are suggested for unknown
    keys. Texts of the author's validators are kept, but parts that occur in the rejected value are redacted.
    """
    lines: dict[str, None] = {}
    for details in error.errors(include_url=False):
        pointer = root
        for key in location_of(details, document):
            pointer = join_pointer(pointer, key)
        reason = _reason(details)
        if model is not None and details["type"] == "extra_forbidden" and len(details["loc"]) == 1:
            near = difflib.get_close_matches(str(details["loc"][0]), _names(model), n=1)
            reason += f"; did you mean {near[0]!r}?" if near else ""
        lines[f"{pointer or '/'}: {reason}"] = None
    listed = tuple(lines)
    if len(listed) > MOST_PROBLEMS:
        return (*listed[:MOST_PROBLEMS], f"and {len(listed) - MOST_PROBLEMS} more problems")
    return listed


def location_of(details: ErrorDetails, document: Any) -> tuple[str | int, ...]:
    """Return the keys on the path to an error in the document.

    pydantic's location also names branches of unions and validators. Parts that are not in the document are left out,
    except the missing key.
    """
    keys: list[str | int] = []
    here = document
    last = len(details["loc"]) - 1
    for index, key in enumerate(details["loc"]):
        is_item = isinstance(here, list) and isinstance(key, int) and key < len(here)
        if is_item or (isinstance(here, Mapping) and key in here):
            keys.append(key)
            here = here[key]
        elif index == last and details["type"] == "missing":
            keys.append(key)
    return tuple(keys)


def _reason(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} is not one of {context['expected_tags']}"
    if kind == "json_invalid" and "recursion limit" in str(context.get("error")):
        return TOO_DEEP
    if kind in _QUOTING_THE_INPUT:
        return f"is not valid ({kind})"
    if kind in _WORDED_BY_PYDANTIC:
        return details["msg"]
    text = " ".join(str(context.get("error", details["msg"])).split())
    for leaf in sorted({str(leaf) for leaf in _leaves(details["input"])} - {""}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(leaf)}(?!\w)", "…", text)
    return text[:_LONGEST_REASON] or f"is not valid ({kind})"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from _leaves(vars(value))
    elif value is not None and not isinstance(value, bool):
        yield value


_RESHAPING = ("before", "wrap", "plain")


def ignored_keys(document: Any, value: Any, pointer: str = "") -> Iterator[str]:
    """Return JSON pointers to the keys that had no effect when `value` was made of `document`, each with a similar
    field name if there is one.

    No key is reported below an author's validator that gets the document before its model, because it can read any key.
    """
    if isinstance(value, RootModel):
        if not _is_reshaped(type(value), "root"):
            yield from ignored_keys(document, value.root, pointer)
    elif isinstance(value, BaseModel) and isinstance(document, Mapping):
        yield from _of_model(document, value, pointer)
    elif isinstance(value, list | tuple) and isinstance(document, list | tuple) and len(value) == len(document):
        for index, (part, item) in enumerate(zip(document, value, strict=True)):
            yield from ignored_keys(part, item, join_pointer(pointer, index))
    elif isinstance(value, Mapping) and isinstance(document, Mapping):
        for key, item in value.items():
            if str(key) in document:
                yield from ignored_keys(document[str(key)], item, join_pointer(pointer, str(key)))


def _of_model(document: Mapping[str, Any], value: BaseModel, pointer: str) -> Iterator[str]:
    model = type(value)
    validators = model.__pydantic_decorators__.model_validators.values()
    if any(validator.info.mode in _RESHAPING for validator in validators):
        return
    names = _names(model)
    if model.model_config.get("extra") != "allow":
        for key in document:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                yield f"{join_pointer(pointer, key)}{f' (did you mean {near[0]}?)' if near else ''}"
    for key, name in names.items():
        if key in document and not _is_reshaped(model, name):
            yield from ignored_keys(document[key], getattr(value, name), join_pointer(pointer, key))


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return the fields by the keys under which they are read."""
    return {key: name for name, field in model.model_fields.items() for key in _keys(model, name, field)}


def _keys(model: type[BaseModel], name: str, field: FieldInfo) -> Iterator[str]:
    """The keys under which a field is read."""
    config = model.model_config
    alias = field.validation_alias
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        yield name
    for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
        key = choice.path[0] if isinstance(choice, AliasPath) else choice
        if isinstance(key, str):
            yield key


def _is_reshaped(model: type[BaseModel], name: str) -> bool:
    validators = model.__pydantic_decorators__.field_validators.values()
    own = any(item.info.mode in _RESHAPING and {name, "*"} & set(item.info.fields) for item in validators)
    kinds = (BeforeValidator, WrapValidator, PlainValidator)
    return own or any(isinstance(item, kinds) for item in model.model_fields[name].metadata)


_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_SHOWN = 80
_BLOCKS = ({"repository", "branch", "ref_type", "ref"}, {"repository", "branch", "refType", "ref"})


def workspace_block(repository: str, branch: str, ref: Any) -> dict[str, Any]:
    """Return the `workspace` of an input: a branch, and the commit or the commits at which the task begins."""
    return {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}


class _Claim(NamedTuple):
    """Something that should be a commit id."""

    pointer: str
    value: Any
    repository: Any = None
    """The stated place, if there is one."""
    is_output: bool = False
    """Whether it comes from the output of a task. Then it can be a part of a result, which is never quoted."""


def commits_of(ref: Any, repository: Any, problems: list[str], pointer: str = "/workspace/ref") -> tuple[str, ...]:
    """Return the commits that `ref` gives, each once, in their order. `problems` gets the errors.

    Null entries are ignored, because an optional task of a fork may have failed, and then has no output.
    """
    commits: dict[str, None] = {}
    known = len(problems)
    for claim in _claims(ref, pointer):
        if not (isinstance(claim.value, str) and _COMMIT_ID.fullmatch(claim.value)):
            actual = type(claim.value).__name__ if claim.is_output else shown(claim.value)
            problems.append(
                f"{claim.pointer}: must be a full commit id (64 hexadecimal digits, lower case), not {actual}; "
                "`perago input` prints the head of a branch"
            )
        elif claim.repository not in (None, repository):
            problems.append(
                f"{claim.pointer}: belongs to another repository than {shown(repository)}; commits of two "
                "repositories cannot be joined, so give those of one as a list"
            )
        else:
            commits[claim.value] = None
    if not commits and len(problems) == known:
        problems.append(
            f"{pointer}: names no commit: it is empty, or has no complete workspace block (repository, branch, "
            "ref_type, ref); give a commit id, a list of them, or the output of a JOIN"
        )
    return tuple(commits)


def shown(value: Any) -> str:
    """Return a value as a message can quote it. Only the kind of a list or a map is shown."""
    text = type(value).__name__ if isinstance(value, list | Mapping) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _claims(ref: Any, pointer: str) -> Iterator[_Claim]:
    if isinstance(ref, Mapping):
        yield from _claims_of_outputs(ref, pointer)
    elif isinstance(ref, list):
        for index, item in enumerate(ref):
            place = join_pointer(pointer, index)
            if isinstance(item, list):
                yield _Claim(place, item)
            elif item is not None:
                yield from _claims(item, place)
    else:
        yield _Claim(pointer, ref)


def _is_complete(block: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a workspace block in the output of a perago task."""
    if not isinstance(block, Mapping) or block.keys() not in _BLOCKS:
        return False
    named = all(isinstance(block[key], str) and block[key] for key in ("repository", "branch"))
    return named and block.get("ref_type", block.get("refType")) == "commit"


def _claims_of_outputs(value: Any, pointer: str) -> Iterator[_Claim]:
    """Yield every `workspace.ref` below, because joins, loops and sub-workflows nest the outputs of their tasks. Only
    complete blocks of perago's tasks count, because any other step can have a `workspace` in its output. The result
    next to a workspace belongs to its author, whatever it contains."""
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    block = value.get("workspace") if isinstance(value, Mapping) else None
    has_ref = _is_complete(block) and block["ref"] is not None
    for key, item in items:
        place = join_pointer(pointer, key)
        if has_ref and key == "workspace":
            for claim in _claims(item["ref"], join_pointer(place, "ref")):
                yield claim._replace(repository=claim.repository or item.get("repository"), is_output=True)
        elif not (has_ref and key == "result"):
            yield from _claims_of_outputs(item, place)


_ERROR_KIND = re.compile(r"Error calling function `\w+`|(?<=: )[A-Z]\w*(?:Error|Exception)(?=:)")


class InvalidResult(Exception):
    """The result cannot be reported; the message says why, without values."""


def dump_result(task: Task, value: object, max_bytes: int) -> Any:
    """Return the returned value as JSON, written by the declared model even if the value is an instance of a subclass.

    Raises:
        InvalidResult: not an instance of the model, not valid, not JSON, or longer than `max_bytes` of UTF-8.
    """
    model = task.result_model
    if not isinstance(value, model):
        raise InvalidResult(f"the function returned {_kind_of(value)}, but declares {model.__name__} as its result")
    document = _write(model, value)
    _refuse_non_finite(model, value)
    restored = _read_back(model, value)
    if not _holds_declared_types(model, value):  # fields assigned later: send what the model makes of them
        document = _write(model, restored)
    size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    if size > max_bytes:
        advice = "write it to a file in the workspace and return the path"
        if task.workspace is None:
            advice = "store it elsewhere and return where, or give the task a workspace"
        limit = f"more than {max_bytes:,} (PERAGO_MAX_RESULT_BYTES)"
        raise InvalidResult(f"the result is {size:,} bytes of JSON, {limit}; {advice}")
    return document


def check_recorded_result(task: Task, recorded: Any) -> None:
    """Check that a result which an earlier attempt recorded is valid today.

    Raises:
        InvalidResult: the model or the record has changed.
    """
    schema = _without_computed(output_schema(task)["properties"]["result"])
    problems = tuple(schema_problems(schema, recorded))
    if problems:
        raise InvalidResult(_mismatch(task.result_model, problems[:MOST_PROBLEMS]))


def _without_computed(schema: Any) -> Any:
    """The schema without the requirement of computed fields, because a record may be older than such a field."""
    if isinstance(schema, list):
        return [_without_computed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    relaxed = {key: _without_computed(part) for key, part in schema.items()}
    if isinstance(schema.get("required"), list):
        fields = schema.get("properties", {})
        relaxed["required"] = [name for name in schema["required"] if not fields.get(name, {}).get("readOnly")]
    return relaxed


def _write(model: type[BaseModel], value: BaseModel) -> Any:
    try:
        return json.loads(_adapter(model).dump_json(value, by_alias=True, warnings=False))
    except Exception as error:  # a serializer or a computed field of the author may fail in any way
        raise InvalidResult(_not_text(model, value, error) or _unwritable(error)) from error


@functools.cache
def _adapter(model: type[BaseModel]) -> TypeAdapter[BaseModel]:
    return TypeAdapter(model)


def _read_back(model: type[BaseModel], value: BaseModel) -> BaseModel:
    """Return the value after a round trip through JSON under its field names."""
    try:
        text = _adapter(model).dump_json(value, by_alias=False, round_trip=True, warnings=False)
    except Exception as error:
        raise InvalidResult(_unwritable(error)) from error
    try:
        return model.model_validate_json(text, by_alias=False, by_name=True)
    except ValidationError as error:
        raise InvalidResult(_mismatch(model, problem_lines(error, json.loads(text), ""))) from None
    except Exception as error:
        raise InvalidResult(f"a validator of {model.__name__} raised {type(error).__name__} for the result") from error


def _holds_declared_types(model: type[BaseModel], value: BaseModel) -> bool:
    try:
        _adapter(model).dump_python(value, mode="json", warnings="error")
    except PydanticSerializationError:
        return False
    return True


def _refuse_non_finite(model: type[BaseModel], value: BaseModel) -> None:
    """Find NaN and infinities in the Python values, because pydantic can write them as null."""
    if model.model_config.get("ser_json_inf_nan") == "strings":  # the author has chosen a form that JSON can carry
        return
    values = _adapter(model).dump_python(value, by_alias=True, warnings=False)
    for pointer, item in _result_leaves(values, ""):
        if isinstance(item, float) and not math.isfinite(item):
            raise InvalidResult(f"the result has NaN or an infinity at {pointer}, which JSON cannot carry")


def _result_leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Numbers, texts and bytes, and their places."""
    if isinstance(value, float | str | bytes):
        yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _result_leaves(item, join_pointer(pointer, str(key)))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from _result_leaves(item, join_pointer(pointer, index))


def _not_text(model: type[BaseModel], value: BaseModel, error: Exception) -> str | None:
    """Describe the place of bytes or text without a UTF-8 form; None: that is not the error."""
    if "utf-8" not in str(error):
        return None
    try:
        values = _adapter(model).dump_python(value, by_alias=True, warnings=False)
    except Exception:  # noqa: BLE001 - then the error itself has to do
        return None
    for pointer, item in _result_leaves(values, ""):
        try:
            item.decode() if isinstance(item, bytes) else str(item).encode()
        except UnicodeError:
            what = "bytes that are not UTF-8 text" if isinstance(item, bytes) else "text with half a surrogate pair"
            advice = "; use pydantic.Base64Bytes, or encode them" if isinstance(item, bytes) else ""
            return f"the result cannot be written as JSON: {what} at {pointer}{advice}"
    return None


def _kind_of(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, type):
        return f"the class {value.__name__} instead of an instance"
    return f"an object of type {type(value).__name__}"


def _mismatch(model: type[BaseModel], problems: tuple[str, ...]) -> str:
    return f"the result is not a valid {model.__name__}: {'; '.join(problems)}"


def _unwritable(error: Exception) -> str:
    """Describe why writing failed: only the kinds of errors, because the text of the author's code can quote values."""
    text = str(error).partition("\n")[0]
    if text.endswith("Maximum serialization depth exceeded"):
        return f"the result {TOO_DEEP}"
    if not text.startswith("Unable to serialize unknown type"):
        text = ": ".join(dict.fromkeys(_ERROR_KIND.findall(text))) or type(error).__name__
    return f"the result cannot be written as JSON: {text}"


__all__ = [
    "HEAD_OF",
    "InvalidInput",
    "InvalidResult",
    "TaskInput",
    "WorkspaceInput",
    "check_recorded_result",
    "dump_result",
    "name_problem",
    "parse_head_request",
    "parse_input",
]

_NAMES = {
    "repository": (re.compile(r"[a-z0-9][a-z0-9-]{2,62}"), "3 to 63 lower-case letters, digits and dashes"),
    "branch": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*"), "letters, digits, underscores and dashes"),
}
"""Names that lakeFS accepts (`docs/dev/servers/lakefs.md`, "REST facts")."""

RefKey: TypeAlias = Literal["ref_type", "refType"]


class InvalidInput(Exception):
    """The input is not valid, so a retry cannot succeed.

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
    """One commit, or several of which one continues the others, without duplicates."""
    ref_key: RefKey
    """The spelling of `ref_type` in the input; the output uses the same spelling."""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A valid input. `params_sha256` identifies the parameters as they were sent.

    `ignored` has the keys of the params that their model ignored, as JSON pointers, each with a similar field name if
    there is one.
    """

    workspace: WorkspaceInput | None
    params: BaseModel = field(repr=False)
    params_sha256: str
    ignored: tuple[str, ...] = ()


def parse_input(task: Task, payload: Mapping[str, Any]) -> TaskInput:
    """Check an input from Conductor against the task.

    Raises:
        InvalidInput: the input is not valid; it has all problems.
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


HEAD_OF = "head_of"
"""The key of an input that only asks for the newest commit of a branch: the launcher of a schedule sends it."""


def parse_head_request(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Return the repository and the branch whose newest commit an input asks for.

    Raises:
        InvalidInput: the input is not valid; it has all problems.
    """
    problems = list(_key_problems(payload, (HEAD_OF,), "an input with head_of has only"))
    block = payload[HEAD_OF]
    if isinstance(block, Mapping):
        problems += _key_problems(block, tuple(_NAMES), "head_of has", f"/{HEAD_OF}")
        problems += _name_problems(block, HEAD_OF)
    else:
        problems.append(f"/{HEAD_OF}: must be an object, not {type(block).__name__}")
    if problems:
        raise InvalidInput(tuple(problems))
    return block["repository"], block["branch"]


def params_sha256(params: Any) -> str:
    """Hex digest of the canonical JSON of parameters as sent: keys sorted, no blanks, ASCII."""
    text = json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _key_problems(block: Mapping[str, Any], keys: tuple[str, ...], takes: str, parent: str = "") -> Iterator[str]:
    for key in keys:
        if key not in block:
            yield f"{join_pointer(parent, key)}: is missing"
    for key in block:
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
        problems.extend(problem_lines(error, json.loads(text), "/params", task.params_model))
    except Exception as error:  # noqa: BLE001 - a validator of the author may fail in any way
        problems.append(f"/params: a validator of {task.params_model.__name__} raised {type(error).__name__}")
    return None


def _parse_workspace(block: Any, problems: list[str]) -> WorkspaceInput | None:
    if not isinstance(block, Mapping):
        problems.append(f"/workspace: must be an object, not {type(block).__name__}")
        return None
    ref_key: RefKey = "refType" if "refType" in block and "ref_type" not in block else "ref_type"
    block_problems = list(_workspace_problems(block, ref_key))
    refs = commits_of(block["ref"], block.get("repository"), block_problems) if "ref" in block else ()
    problems.extend(block_problems)
    if block_problems:
        return None
    return WorkspaceInput(block["repository"], block["branch"], refs, ref_key)


def name_problem(kind: str, name: object) -> str | None:
    """The reason why lakeFS cannot have a `repository` or a `branch` of that name."""
    pattern, rule = _NAMES[kind]
    if isinstance(name, str) and pattern.fullmatch(name):
        return None
    rule += " that does not begin with a dash"
    return f"must be a name of {rule}, not {shown(name)}; lakeFS allows no other names"


def _name_problems(block: Mapping[str, Any], parent: str) -> Iterator[str]:
    for key in _NAMES:
        if key in block and (problem := name_problem(key, block[key])):
            yield f"/{parent}/{key}: {problem}"


def _workspace_problems(block: Mapping[str, Any], ref_key: RefKey) -> Iterator[str]:
    keys = ("repository", "branch", ref_key, "ref")
    if "ref_type" in block and "refType" in block:
        yield "/workspace/refType: is sent together with ref_type; send only one of them"
        block = {key: value for key, value in block.items() if key != "refType"}
    yield from _key_problems(block, keys, "the workspace has", "/workspace")
    yield from _name_problems(block, "workspace")
    if ref_key in block and block[ref_key] != "commit":
        yield f"/workspace/{ref_key}: must be 'commit', not {shown(block[ref_key])}; only commits are immutable"
