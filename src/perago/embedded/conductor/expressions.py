"""`${...}` expressions in the input parameters of a workflow task.

A string that is one expression becomes the value itself; inside a longer string the value is spelled as Java would
spell it. What is missing is null (`docs/dev/servers/conductor.md`, "Payload fidelity"). Names, quoted names, indices
and `*` are looked up here, as are `length()` and `keys()` at the end; filters, slices, unions of indices and `..` by
the package `python-jsonpath`, which agrees with the server on them. The rest is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

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


_QUERY = re.compile(r"\.\.|\[\?|\[-?\d*:|\[-?\d+(?:,|:)")
"""Steps of a path that only the package `jsonpath` evaluates."""

_FUNCTION = re.compile(r"\.(length|keys)\(\)$")

_REFUSED = re.compile(r"\.\w+\(\)|\[\(|\['[^']*'\s*,")


class _All:
    """The step `*`: every item of a list, every value of an object."""


ALL = _All()
PathStep = str | int | _All


def parse_path(path: str) -> tuple[PathStep, ...] | None:
    """Return the steps of a path such as `render.output.files[0]['a.b']`; None for one that only the package evaluates.

    Raises:
        NotImplementedError: a part of JSONPath that this model does not have, or the package is not installed.
    """
    if path.startswith(_UNSUPPORTED_ROOTS):
        raise NotImplementedError(f"InMemoryConductor: expression ${{{path}}} is not modelled")
    path = _FUNCTION.sub("", path)
    if _QUERY.search(path) and not _REFUSED.search(path):
        _compiled(path)
        return None
    text, position, steps = f".{path}", 0, []
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            problem = f"JSONPath from {text[position:]!r} on is not modelled"
            raise NotImplementedError(f"InMemoryConductor: expression ${{{path}}}: {problem}")
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _compiled(path: str) -> Any:
    try:
        import jsonpath
    except ImportError:
        needed = "the package python-jsonpath, which perago's extra `embedded` brings along"
        raise NotImplementedError(f"InMemoryConductor: expression ${{{path}}} needs {needed}") from None
    try:
        return jsonpath.compile(f"$.{path}")
    except jsonpath.JSONPathError as error:
        raise NotImplementedError(f"InMemoryConductor: expression ${{{path}}} is not modelled: {error}") from error


def _step(match: re.Match[str]) -> PathStep:
    if match["all"] is not None:
        return ALL
    if match["index"] is not None:
        return int(match["index"])
    return next(name for name in (match["name"], match["single"], match["double"]) if name is not None)


def resolve(value: Any, context: Mapping[str, Any], task_id: str | None = None) -> Any:
    """Return a copy of `value` in which every expression, at any depth, is replaced by its value in `context`."""
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
    """Find the outermost `${...}`; braces inside are balanced, `$${` is an escape."""
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
    function = _FUNCTION.search(path)
    selection = _find(path, context)
    if function is None:
        return selection
    if function[1] == "keys":
        return list(selection) if isinstance(selection, Mapping) else None
    return len(selection) if isinstance(selection, Mapping | list) else None


def _find(path: str, context: Mapping[str, Any]) -> Any:
    """Return the value of a path without the function at its end, or the list of all that fit."""
    steps = parse_path(path)
    if steps is None:
        return _compiled(_FUNCTION.sub("", path)).findall(context)
    matches = list(_select(context, steps))
    if any(step is ALL for step in steps):
        return matches
    return matches[0] if matches else None


def _select(value: Any, steps: Sequence[PathStep]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    for item in _children(value, step):
        yield from _select(item, rest)


def _children(value: Any, step: PathStep) -> Sequence[Any]:
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
    """Yield the problems that the server finds in expressions when a workflow definition is registered.

    Raises:
        NotImplementedError: an expression beyond this model.
    """
    for key, value in parameters.items():
        yield from _find_problems(key, value, task_name, references)


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """Raise only the `NotImplementedError` of `find_problems`, for parameters that the server does not check."""
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
        where = f"given task: {task_name} input value: {key} of input parameter: {value}"
        yield f"taskReferenceName: {root} for {where} is not defined in workflow definition."


def java_text(value: Any) -> str:
    """Spell a value as inside of a longer text: `{a=[1, null]}`, `1.0E20`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _java_double(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(java_text(item) for item in value) + "]"
    return str(value)


_CLASSES = {
    bool: "lang.Boolean",
    int: "lang.Integer",
    float: "lang.Double",
    str: "lang.String",
    list: "util.LinkedList",
}


def cast_error(value: Any, target_class: str) -> str:
    """Return the words of Java about a value that is not of the class `target_class`."""
    own = f"java.{_CLASSES.get(type(value), 'util.LinkedHashMap')}"
    modules = f"{own} and {target_class} are in module java.base of loader 'bootstrap'"
    return f"class {own} cannot be cast to class {target_class} ({modules})"


def _java_double(value: float) -> str:
    """Plain between 0.001 and ten million, otherwise scientific; always with a digit after the point."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    mantissa = "".join(map(str, digits))
    power = int(exponent) + len(mantissa) - 1
    return f"{'-' if sign else ''}{mantissa[0]}.{mantissa[1:] or '0'}E{power}"
