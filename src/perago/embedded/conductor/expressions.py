"""`${...}` expressions in the input parameters of a workflow task.

A string that is one expression becomes the value itself; inside a longer string the value is spelled as Java would
spell it. What is missing is null (`reference/conductor.md` 2 "Payload fidelity"). Paths are names, quoted names,
indices and `*`; the rest of JSONPath is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perago.embedded.conductor.javatext import java_text
from perago.embedded.conductor.wire import copied

TASK_ID_VARIABLE = "CPEWF_TASK_ID"

_UNSUPPORTED_ROOTS = ("workflow.secrets.", "workflow.env.", "NETFLIX_ENV", "NETFLIX_STACK")

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]()?*,:'"\s$@{}]+)
      | \[(?P<index>-?\d+)\]
      | \['(?P<single>[^']*)'\]
      | \["(?P<double>[^"]*)"\]
      | (?P<all>\.\*|\[\*\])""",
    re.VERBOSE,
)

_SEGMENTS = re.compile(r"(?=(?<!\$)\$\{)|(?<=\})")

_BRACKETED = re.compile(r"\[[^\]]*\]")


class _All:
    """The step `*`: every item of a list, every value of an object."""


ALL = _All()
Step = str | int | _All


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path such as `render.output.files[0]['a.b']`.

    Raises:
        NotImplementedError: a part of JSONPath that this model does not have (filters, slices, functions, `..`).
    """
    if path.startswith(_UNSUPPORTED_ROOTS):
        raise NotImplementedError(f"InMemoryConductor: expression ${{{path}}} is not modelled")
    text, position, steps = f".{path}", 0, []
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise NotImplementedError(
                f"InMemoryConductor: expression ${{{path}}}: JSONPath from {text[position:]!r} on is not modelled; "
                "use names, ['quoted names'], [indices] and [*]"
            )
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["all"] is not None:
        return ALL
    if match["index"] is not None:
        return int(match["index"])
    return next(name for name in (match["name"], match["single"], match["double"]) if name is not None)


def resolve(value: Any, context: Mapping[str, Any], task_id: str | None = None) -> Any:
    """A copy of `value` in which every expression, however deep, is replaced by what it names in `context`."""
    return copied(_resolve(value, context, task_id))


def _resolve(value: Any, context: Mapping[str, Any], task_id: str | None) -> Any:
    if isinstance(value, str):
        return _resolve_text(value, context, task_id, whole=True)
    if isinstance(value, Mapping):
        return {key: _resolve(item, context, task_id) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(item, context, task_id) for item in value]
    return value


def _resolve_text(text: str, context: Mapping[str, Any], task_id: str | None, *, whole: bool) -> Any:
    parts: list[str] = []
    position = 0
    for start, end in _expressions(text):
        path = str(_resolve_text(text[start + 2 : end - 1], context, task_id, whole=False))
        value = _look_up(path, context, task_id)
        if whole and (start, end) == (0, len(text)):
            return value
        parts += [text[position:start], java_text(value)]
        position = end
    parts.append(text[position:])
    return "".join(parts).replace("$${", "${")


def _expressions(text: str) -> Iterator[tuple[int, int]]:
    """Where the outermost `${...}` are; braces inside are balanced, `$${` is an escape."""
    position = 0
    while (start := text.find("${", position)) >= 0:
        escaped = start > 0 and text[start - 1] == "$"
        end = None if escaped else _closing_brace(text, start + 1)
        if end is None:
            position = start + 2
        else:
            yield start, end
            position = end


def _closing_brace(text: str, opening: int) -> int | None:
    depth = 0
    for position in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return None


def _look_up(path: str, context: Mapping[str, Any], task_id: str | None) -> Any:
    if not path.strip():
        return ""
    if path == TASK_ID_VARIABLE:
        return task_id
    steps = parse_path(path)
    found = list(_select(context, steps))
    if any(step is ALL for step in steps):
        return found
    return found[0] if found else None


def _select(value: Any, steps: Sequence[Step]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    for item in _children(value, step):
        yield from _select(item, rest)


def _children(value: Any, step: Step) -> Sequence[Any]:
    if isinstance(value, Mapping):
        if isinstance(step, _All):
            return list(value.values())
        return [value[step]] if step in value else []
    if isinstance(value, list):
        if isinstance(step, _All):
            return value
        if isinstance(step, int) and -len(value) <= step < len(value):
            return [value[step]]
    return []


def find_problems(parameters: Mapping[str, Any], task_name: str, references: frozenset[str]) -> Iterator[str]:
    """What the server says about expressions when a workflow definition is registered.

    Raises:
        NotImplementedError: an expression beyond this model.
    """
    for key, value in parameters.items():
        yield from _find_problems(key, value, task_name, references)


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """Only the `NotImplementedError` of `find_problems`, for parameters that the server does not check."""
    for _ in find_problems(parameters, "", frozenset()):
        pass


def _find_problems(key: str, value: Any, task_name: str, references: frozenset[str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from find_problems(value, task_name, references)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _find_problems(key, item, task_name, references)
    elif isinstance(value, str):
        for segment in _SEGMENTS.split(value):
            if segment.startswith("${") and segment.endswith("}"):
                yield from _path_problems(segment[2:-1], key, value, task_name, references)


def _path_problems(path: str, key: str, value: str, task_name: str, references: frozenset[str]) -> Iterator[str]:
    if not path or any(character.isspace() for character in _BRACKETED.sub("", path)):
        yield f"key: {key} input parameter value: {path} is not valid"
        return
    if path == TASK_ID_VARIABLE:
        return
    parse_path(path)
    root = path.split(".")[0]
    if root != "workflow" and root not in references:
        yield (
            f"taskReferenceName: {root} for given task: {task_name} input value: {key} of input parameter: {value} "
            "is not defined in workflow definition."
        )
