"""The forms of the pages: they start a workflow, answer a step that waits for a signal, and end a workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from perago.console import links
from perago.console.overview import requested_definition
from perago.console.source import Embedded, Json, NoSuchPage, Source
from perago.console.text import PageView, line, link
from perago.failure import Failure
from perago.ports import ServiceError
from perago.taskdef.payload import commits_of, workspace_block
from perago.taskdef.schema import join_pointer, schema_problems, shape_of, skeleton_of
from perago.text import strict_json
from perago.workflows.waiting import OpenWait, deliver, waits_of

MAX_BODY = 1024 * 1024
"""Maximum size of a form in bytes."""
_MAX_FIELDS = 200
_ROWS = 12
_REPOSITORIES = 100
"""The number of repositories that are searched for one with a branch."""
_INPUT = re.compile(r"\$\{workflow\.input\.([A-Za-z0-9_]+)")
_WORKSPACE = ("repository", "branch", "ref")
_REF_HINT = (
    "the commit to work on, or several as JSON: a list, or the output of a JOIN; empty: the newest of the branch when "
    "it is started"
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `key` is the JSON pointer of its value in the workflow's input, `kind` how it is filled in: text,
    number, choice (of JSON texts) or json."""

    key: str
    label: str
    kind: str
    value: str
    schema: Json
    required: bool
    hint: str = ""
    choices: tuple[str, ...] = ()
    rows: int = 1
    error: str = ""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The bounds of the value, which the browser also checks."""
        names = {"minimum": "min", "maximum": "max"} if self.kind == "number" else {}
        attributes = {names[key]: self.schema[key] for key in names if key in self.schema}
        if self.kind == "number":
            attributes["step"] = self.schema.get("multipleOf", 1 if self.schema.get("type") == "integer" else "any")
        return attributes


@dataclass(frozen=True, slots=True)
class Part:
    """The fields of one input of the workflow."""

    name: str
    fields: tuple[Field, ...]

    @property
    def is_one_field(self) -> bool:
        """Whether its only field has its name, which needs no box around it."""
        return [field.label for field in self.fields] == [self.name]


def form(embedded: Embedded, source: Source, request: Request) -> PageView:
    """Show the form of `?name=` and `?version=`, filled with valid values.

    Raises:
        NoSuchPage: there is no such workflow definition.
    """
    definition, _ = requested_definition(source, request)
    return _page(definition, _parts(source, embedded, definition))


def start(source: Source, embedded: Embedded, request: Request, body: bytes) -> Response | PageView:
    """Start the workflow of the form. Redirect to the workflow, or show the form with its errors.

    Raises:
        NoSuchPage: there is no such workflow definition.
    """
    definition, _ = requested_definition(source, request)
    submitted = _decoded(body)
    payload: dict[str, Any] = {}
    parts = tuple(_read(part, submitted, payload) for part in _parts(source, embedded, definition))
    if "workspace" in payload and not any(field.error for part in parts for field in part.fields):
        parts = tuple(_with_head(source, part, payload) if part.name == "workspace" else part for part in parts)
    if any(field.error for part in parts for field in part.fields):
        return _page(definition, parts)
    try:
        name, version = definition["name"], definition["version"]
        workflow_id = embedded.conductor.start_workflow(name, payload, version=version)
    except ServiceError as error:
        return _page(definition, parts, error.detail)
    return RedirectResponse(links.workflow(workflow_id), 303)


def terminate(embedded: Embedded, request: Request, body: bytes) -> Response:
    """End the workflow of the address, with the form's reason."""
    workflow_id = request.path_params["workflow"]
    reason = _decoded(body).get("reason", "").strip()
    embedded.conductor.terminate_workflow(workflow_id, reason[:500] or "ended in the console")
    return RedirectResponse(links.workflow(workflow_id), 303)


def signal_form(embedded: Embedded, _: Source, request: Request) -> PageView:
    """Show the form that answers a step which waits for a signal.

    Raises:
        NoSuchPage: the step does not wait.
    """
    return _signal_page(*_wait(embedded, request))


def signal(embedded: Embedded, request: Request, body: bytes) -> Response | PageView:
    """Send the signal of the form. Redirect to the workflow, or show the form with its errors.

    Raises:
        NoSuchPage: the step does not wait.
    """
    wait, part = _wait(embedded, request)
    payload: dict[str, Any] = {}
    part = _read(part, _decoded(body), payload)
    if any(field.error for field in part.fields):
        return _signal_page(wait, part)
    try:
        deliver(embedded.conductor, wait, payload[part.name])
    except Failure as failure:
        return _signal_page(wait, part, failure.message)
    return RedirectResponse(links.workflow(wait.workflow_id), 303)


def _wait(embedded: Embedded, request: Request) -> tuple[OpenWait, Part]:
    workflow = embedded.conductor.workflow(request.path_params["workflow"])
    step = request.path_params["step"]
    wait = next((wait for wait in waits_of(workflow) if wait.reference == step), None)
    if wait is None:
        raise NoSuchPage(f"Step {step!r} of the workflow does not wait for a signal, or no longer.")
    return wait, Part("signal", tuple(_fields("signal", wait.schema, {}))[:_MAX_FIELDS])


def _signal_page(wait: OpenWait, part: Part, problem: str = "") -> PageView:
    return PageView(
        f"Answer {line(wait.reference).text}",
        crumbs=(link("Workflows", links.OVERVIEW), link(wait.workflow_id, links.workflow(wait.workflow_id))),
        action="Answer",
        done="sent",
        button="Send the signal",
        type=link(wait.reference),
        address=links.signal(wait.workflow_id, wait.reference),
        parts=(part,),
        wrong=sum(bool(field.error) for field in part.fields),
        problem=problem,
    )


def _decoded(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=2 * _MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, "This is not a form of this page.") from error
    return dict(fields)


def _page(definition: Json, parts: tuple[Part, ...], problem: str = "") -> PageView:
    name, version = definition["name"], definition["version"]
    return PageView(
        f"Start {line(name).text}",
        crumbs=(link("Workflows", links.OVERVIEW),),
        action="Start",
        done="started",
        button="Start the workflow",
        type=link(f"{name} v{version}", links.workflow_type(name, version)),
        address=links.start(name, version),
        parts=parts,
        wrong=sum(bool(field.error) for part in parts for field in part.fields),
        problem=problem,  # of the form as a unit, not of one field
    )


# ------------------------------------------------------------------------ the form


def _parts(source: Source, embedded: Embedded, definition: Json) -> tuple[Part, ...]:
    named = _INPUT.findall(json.dumps(definition.get("tasks", [])))
    names = [name for name in (*definition.get("inputParameters", ()), *named) if isinstance(name, str)]
    parts = []
    for name in dict.fromkeys(names):
        schema = _schema(source, definition, name)
        if name == "workspace":
            sample: Any = _head(source)
        elif name == "params" and definition["name"] in embedded.samples:
            sample = embedded.samples[definition["name"]]
        else:
            sample = skeleton_of(schema)
        parts.append(Part(name, tuple(_fields(name, schema, sample))[:_MAX_FIELDS]))
    return tuple(parts)


def _schema(source: Source, definition: Json, name: str) -> Json:
    """Return the schema of an input: that of the definition, or of the task that takes it in full."""
    own = ((definition.get("inputSchema") or {}).get("data") or {}).get("properties") or {}
    if isinstance(own.get(name), Mapping):
        declared: Json = own[name]
        return declared
    for task in definition.get("tasks", []):
        for key, value in task.get("inputParameters", {}).items():
            if value == f"${{workflow.input.{name}}}":
                known = source.conductor.task_definition(task["name"]) or {}
                schema = (known.get("inputSchema") or {}).get("data") or {}
                parameter: Json = (schema.get("properties") or {}).get(key) or {}
                return parameter
    return {}


def _head(source: Source) -> Json:
    """The head of the first repository that has a branch."""
    for repository in source.lakefs.repositories("", _REPOSITORIES)[0]:
        with suppress(NoSuchPage):
            head = source.lakefs.branch(repository.id, repository.default_branch)
            return {"repository": repository.id, "branch": head.id, "ref": head.commit_id}
    return dict.fromkeys(_WORKSPACE, "")


def _fields(name: str, schema: Json, sample: Any) -> Iterator[Field]:
    if name == "workspace":
        for key in _WORKSPACE:
            hint = _REF_HINT if key == "ref" else ""
            value = str(sample[key])
            yield Field(f"/workspace/{key}", key, "text", value, {"type": "string"}, key != "ref", hint)
        return
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not isinstance(sample, Mapping):
        yield _field(f"/{name}", name, schema, sample, required=True)
        return
    for key, part in properties.items():
        required = key in schema.get("required", ())
        value = sample[key] if key in sample else part.get("default")
        yield _field(join_pointer(f"/{name}", key), key, part, value, required=required)


def _field(key: str, label: str, schema: Json, value: Any, *, required: bool) -> Field:
    options = [option for option in shape_of(schema).options if option.get("type") != "null"]
    if len(options) == 1:
        schema = {**{name: schema[name] for name in ("title", "description") if name in schema}, **options[0]}
        required = False
    kind, choices = _kind(schema)
    if kind == "text":
        text = "" if value is None else str(value)
    else:
        missing = (value is None and kind != "json") or (value is None and not required)
        text = "" if missing else json.dumps(value, ensure_ascii=False, indent=2 if kind == "json" else None)
    rows = min(_ROWS, text.count("\n") + (1 if kind == "text" else 2))
    if choices and not required:
        choices = ("", *choices)
    return Field(key, label, kind, text, schema, required, _hint(schema, kind), choices, rows)


def _kind(schema: Json) -> tuple[str, tuple[str, ...]]:
    shape = shape_of(schema)
    kind = shape.kinds[0] if len(shape.kinds) == 1 else None
    if options := shape.values or ((True, False) if kind == "boolean" else ()):
        return "choice", tuple(json.dumps(option, ensure_ascii=False) for option in options)
    if kind == "string":
        return "text", ()
    return ("number" if kind in ("integer", "number") else "json"), ()


def _hint(schema: Json, kind: str) -> str:
    bounds = (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "more than {}"),
        ("maximum", "at most {}"),
        ("exclusiveMaximum", "less than {}"),
        ("minLength", "length at least {}"),
        ("maxLength", "length at most {}"),
        ("pattern", "matches {}"),
        ("format", "{}"),
    )
    limits = [text.format(schema[key]) for key, text in bounds if key in schema]
    described = [str(schema["description"]).rstrip(".")] if schema.get("description") else []
    form = ["JSON"] if kind == "json" else []
    return line("; ".join([*described, *form, *limits])).text


# ----------------------------------------------------------------------- the answer


def _read(part: Part, submitted: Mapping[str, str], payload: dict[str, Any]) -> Part:
    """Return the submitted part with its errors. Its values go into `payload`."""
    fields = []
    values: dict[str, Any] = {}
    whole = f"/{part.name}"
    for field in part.fields:
        text = submitted.get(field.key, "").replace("\r\n", "\n")
        filled = replace(field, value=text)
        if text == "" and not field.required:
            fields.append(filled)
            continue
        try:
            value = text if field.kind == "text" else strict_json(text)
        except (ValueError, RecursionError):
            kinds = {"number": "a number", "choice": "one of the choices", "json": "JSON"}
            problem = f"is not {kinds[field.kind]}"
            fields.append(replace(filled, error=problem if text else "is missing"))
            continue
        fields.append(replace(filled, error=_problem(field, value)))
        if field.key == whole:
            payload[part.name] = value
        else:
            values[field.label] = value
    if not any(field.key == whole for field in part.fields):
        payload[part.name] = values
    return replace(part, fields=tuple(fields))


def _problem(field: Field, value: Any) -> str:
    if value == "" and field.key.startswith("/workspace/"):
        return "is missing"
    wrong = next(schema_problems(field.schema, value, field.key, formats=True), "")
    return wrong.removeprefix(f"{field.key}: ")


def _with_head(source: Source, part: Part, payload: dict[str, Any]) -> Part:
    """Return the workspace with its commit, or with an error if there is no such commit."""
    workspace = payload["workspace"]
    name = "branch"
    try:
        head = source.lakefs.branch(workspace["repository"], workspace["branch"])
        name = "ref"
        ref = _ref(source, workspace["repository"], workspace.get("ref", head.commit_id))
    except (NoSuchPage, ValueError) as error:
        wrong = tuple(replace(field, error=str(error)) if field.label == name else field for field in part.fields)
        return replace(part, fields=wrong)
    payload["workspace"] = workspace | workspace_block(workspace["repository"], workspace["branch"], ref)
    return part


def _ref(source: Source, repository: str, text: str) -> Any:
    """Return the commit in the field, or the commits of a list or of a JOIN's output, as JSON.

    Raises:
        NoSuchPage: one of them does not exist.
        ValueError: it is neither.
    """
    if text[:1] not in ("[", "{"):
        return source.lakefs.commit(repository, text).id
    try:
        value = strict_json(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    problems: list[str] = []
    for commit in commits_of(value, repository, problems, pointer=""):
        source.lakefs.commit(repository, commit)
    if problems:
        raise ValueError("; ".join(problem.removeprefix(": ") for problem in problems))
    return value
