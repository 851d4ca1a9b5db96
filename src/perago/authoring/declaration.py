"""Check declarations: errors, the place in the author's code, fields, and the signature.

`TaskFailed` and `TaskTerminalError` are raised by task functions; `TaskDefinitionError` is raised at import,
by perago, for a declaration that cannot work.

The checks run when `@task` is applied, so that a mistake is found at import and not in the first attempt.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path, PurePath
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, RootModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class TaskFailed(Exception):
    """Raised by a task function: the attempt failed, and a retry may succeed. The message becomes the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TaskTerminalError(Exception):
    """Raised by a task function: the step failed for good, because a retry would not help. The message becomes the
    reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TaskDefinitionError(Exception):
    """A task module or a declaration in it is not valid.

    `message` names the problem, `fix` the correction. `file` and `line` (from 1) are the place in the author's code.
    They are None if there is no such place, as for a module that does not exist.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, fix: str | None = None
    ) -> None:
        """An error at a place in the author's code.

        Args:
            message: What is wrong.
            file: The file; None where there is no such place.
            line: The line, from 1; None where there is no such place.
            fix: What to do about it.
        """
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.fix = fix

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        where = f"{readable_path(self.file)}{line}: " if self.file else ""
        fix = f"\n  fix: {self.fix}" if self.fix else ""
        return f"{where}{self.message}{fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (functools.partial(type(self), file=self.file, line=self.line, fix=self.fix), (self.message,))


def readable_path(file: str) -> str:
    """The path relative to the current directory."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


class InvalidDeclaration(Exception):
    """A rule that a declaration breaks, and how to obey it. Its catcher knows file and line, and makes a
    `TaskDefinitionError` of it."""

    def __init__(self, rule: str, fix: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.fix = fix


P = ParamSpec("P")
R = TypeVar("R")

_MACHINERY = (
    *("perago.authoring.", "perago.clients.", "perago.guardrails.", "perago.workflows."),
    *("pydantic.", "contextlib."),
)


@dataclass(frozen=True, slots=True)
class Location:
    """A line (from 1) of a source file."""

    file: str
    line: int

    @property
    def readable(self) -> str:
        """The place relative to the current directory: `tasks/features.py:12`."""
        return f"{readable_path(self.file)}:{self.line}"

    def error(self, message: str, fix: str | None = None) -> TaskDefinitionError:
        """Return a `TaskDefinitionError` for this place."""
        return TaskDefinitionError(message, file=self.file, line=self.line, fix=fix)


def calling_line() -> Location:
    """Return the current line outside of perago, where the author wrote the declaration."""
    frame = _calling_frame()
    return Location(frame.f_code.co_filename, frame.f_lineno)


def calling_locals() -> Mapping[str, Any]:
    """Return the local names at `calling_line`, so that annotations can name models that are defined in a function."""
    return dict(_calling_frame().f_locals)


def _calling_frame() -> FrameType:
    frame = sys._getframe(1)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(_MACHINERY):
        frame = frame.f_back
    return frame


def declares(written: str, *, named_only: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Convert errors about wrong arguments of an authoring function to a `TaskDefinitionError` at the author's line.

    `written` is the author's spelling of the call, for the message. `named_only` is for decorators, whose first
    positional argument is the decorated function if the author forgets the parentheses.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        takes = f"it takes {', '.join(name for name in signature.parameters if name != 'self')}"

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if named_only and args:
                misuse = "is used without arguments" if callable(args[0]) else "takes named arguments only"
                raise calling_line().error(f"{written} {misuse}", f"{written}(...): {takes}")
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                problem = str(error).replace(" keyword-only", "")  # the words of Python 3.11, in every version
                unknown = next((name for name in kwargs if name not in signature.parameters), "")
                near = difflib.get_close_matches(unknown, signature.parameters, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise calling_line().error(f"{written}: {problem}{meant}", takes) from None
            return function(*args, **kwargs)

        return call

    return decorate


def declared_list(name: str, what: str, declared: object, fix: str, *, but: type = str) -> tuple[Any, ...]:
    """Return an argument that is a list of `what`.

    Raises:
        InvalidDeclaration: it is anything else, such as a text or one item, which is a `but`.
    """
    if isinstance(declared, str | but) or not isinstance(declared, Iterable):
        raise InvalidDeclaration(f"{name} must be a list of {what}, not {type(declared).__name__}", fix)
    return tuple(declared)


LARGEST_INT = 2**31 - 1
"""Conductor keeps counts and seconds in 32-bit integers."""


class Declaration(BaseModel):
    """The base of all declarations that an author writes.

    Raises:
        TaskDefinitionError: a field is unknown, missing or invalid; it points at the line that made the declaration.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # a process that only imports the class does not pay for its validator
    )

    def __init__(self, *positional: object, **fields: Any) -> None:
        if positional:
            raise calling_line().error(f"{type(self).__name__} takes named arguments only", fix=_its_fields(type(self)))
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems = [_problem(type(self), details) for details in error.errors(include_url=False)]
            message = f"{type(self).__name__}: {'; '.join(problems)}"
            is_about_a_field = any(details["type"] in ("extra_forbidden", "missing") for details in error.errors())
            fix = _its_fields(type(self)) if is_about_a_field else None
            raise calling_line().error(message, fix=fix) from None


def at_least(
    minimum: int, reason: str, *, most: int = LARGEST_INT, most_reason: str = "Conductor keeps it in a 32-bit integer"
) -> AfterValidator:
    """Return a check that refuses numbers outside of bounds.

    Args:
        minimum: The smallest number that is accepted.
        reason: Why smaller numbers are refused.
        most: The largest number that is accepted.
        most_reason: Why larger numbers are refused.
    """

    def check(number: float | None) -> float | None:
        if number is not None and number < minimum:
            raise ValueError(f"must be at least {minimum}, not {number}: {reason}")
        if number is not None and number > most:
            raise ValueError(f"must be at most {most}, not {number}: {most_reason}")
        return number

    return AfterValidator(check)


def _its_fields(model: type[BaseModel]) -> str:
    return f"its fields are {', '.join(model.model_fields)}"


def _problem(model: type[BaseModel], details: ErrorDetails) -> str:
    """Return one line for one pydantic error: the field, and its valid values."""
    path = ".".join(str(part) for part in details["loc"] if isinstance(part, int) or str(part).isidentifier())
    if details["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, model.model_fields, n=1, cutoff=0.6)
        return f"unknown field {path!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if details["type"] == "missing":
        return f"field {path!r} is missing"
    context = details.get("ctx", {})
    text = str(context["error"]) if details["type"] == "value_error" else _expectation(details)
    return f"{path}: {text}" if path else text


def _expectation(details: ErrorDetails) -> str:
    actual = type(details["input"]).__name__
    expected = details.get("ctx", {})
    match details["type"]:
        case "int_type" | "int_from_float":
            return f"must be an int, not {actual}"
        case "float_type":
            return f"must be a number, not {actual}"
        case "finite_number":
            return "must be a finite number"
        case "bool_type":
            return f"must be True or False, not {actual}"
        case "string_type":
            return f"must be a str, not {actual}"
        case "literal_error":
            return f"must be {expected['expected']}, not {details['input']!r}"
        case "model_type" | "model_attributes_type":
            return f"must be {expected.get('class_name', 'a declaration')}(...), not {actual}"
    return details["msg"].replace("Input should be", "must be")


WITH_WORKSPACE = "(workspace: Path, params: Params) -> Result"
WITHOUT_WORKSPACE = "(params: Params) -> Result"


def require_function(candidate: object, decorator: str = "@task") -> FunctionType:
    """Return the candidate, if it is a plain function that returns its result. `decorator` is the decorator above it.

    Raises:
        InvalidDeclaration: it is not such a function.
    """
    rule = f"{decorator} decorates a plain function, not"
    if not isinstance(candidate, FunctionType) or candidate.__name__ == "<lambda>":
        kind = "a lambda" if isinstance(candidate, FunctionType) else _kind_of_object(candidate)
        raise InvalidDeclaration(f"{rule} {kind}", "write `def name(...)` in the module")
    owner = candidate.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>"):
        raise InvalidDeclaration(f"{rule} a method of {owner}", "move it out of the class")
    if inspect.isasyncgenfunction(candidate):
        fix = "make it a plain `def` that returns its result once"
        raise InvalidDeclaration("the function is an async generator", fix)
    if inspect.iscoroutinefunction(candidate):
        raise InvalidDeclaration("the function is async", "make it a plain `def` and call asyncio.run(...) inside")
    if inspect.isgeneratorfunction(candidate):
        raise InvalidDeclaration("the function is a generator", "return the result once instead of yielding")
    return candidate


def check_signature(
    function: FunctionType, *, has_workspace: bool, local_names: Mapping[str, Any]
) -> tuple[type[BaseModel], type[BaseModel]]:
    """Return the models of parameters and result.

    Raises:
        InvalidDeclaration: the signature differs from the required one.
    """
    expected = WITH_WORKSPACE if has_workspace else WITHOUT_WORKSPACE
    fix = f"write `def {function.__name__}{expected}`"
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    for parameter in parameters:
        check_kind(parameter, fix)
    _check_names([parameter.name for parameter in parameters], has_workspace, fix)
    for parameter in parameters:
        check_default(parameter)
    for parameter in parameters:
        if parameter.annotation is Parameter.empty:
            raise InvalidDeclaration(f"parameter {parameter.name!r} has no annotation", fix)
    if signature.return_annotation is inspect.Signature.empty:
        raise InvalidDeclaration("the result has no annotation", fix)
    hints = resolve_annotations(function, local_names)
    if has_workspace:
        check_workspace(hints["workspace"])
    return check_model(hints["params"], "parameter 'params'"), check_model(hints["return"], "the result")


def _kind_of_object(candidate: object) -> str:
    if isinstance(candidate, type):
        return f"the class {candidate.__name__}"
    if isinstance(candidate, functools.partial):
        return "a functools.partial"
    if isinstance(candidate, staticmethod | classmethod):
        return f"a {type(candidate).__name__}"
    if inspect.ismethod(candidate):
        return "a bound method"
    return f"an object of type {type(candidate).__name__}"


def check_kind(parameter: Parameter, fix: str) -> None:
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is Parameter.VAR_POSITIONAL else "**"
        fix += "; if another decorator stands below, it must use functools.wraps"
        raise InvalidDeclaration(f"the signature has {stars}{parameter.name}", fix)
    if parameter.kind is Parameter.KEYWORD_ONLY:
        raise InvalidDeclaration(f"parameter {parameter.name!r} is keyword-only", f"remove the `*` before it: {fix}")
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        raise InvalidDeclaration(f"parameter {parameter.name!r} is positional-only", f"remove the `/` after it: {fix}")


def check_default(parameter: Parameter) -> None:
    if parameter.default is not Parameter.empty:
        raise InvalidDeclaration(
            f"parameter {parameter.name!r} has a default, but perago always passes it",
            "remove the default; defaults of single values belong in the params model",
        )


def _check_names(names: Sequence[str], has_workspace: bool, fix: str) -> None:
    expected = ["workspace", "params"] if has_workspace else ["params"]
    if names == expected:
        return
    if has_workspace and "workspace" not in names and names[-1:] == ["params"] and len(names) == 1:
        raise InvalidDeclaration(
            "@task declares a workspace, but the function takes no 'workspace'",
            f"{fix}, or remove workspace=... from @task",
        )
    if not has_workspace and "workspace" in names:
        raise InvalidDeclaration(
            "the function takes 'workspace', but @task declares none",
            "add workspace=WorkspaceSpec(...) to @task, or remove the parameter",
        )
    if sorted(names) == sorted(expected):
        raise InvalidDeclaration(f"the parameters are in the wrong order: {', '.join(names)}", fix)
    if len(names) < len(expected):
        missing = [name for name in expected if name not in names] or expected
        raise InvalidDeclaration(f"the function lacks the parameter {missing[0]!r}", fix)
    if len(names) > len(expected):
        extra = [name for name in names if name not in expected]
        raise InvalidDeclaration(
            f"the function has an extra parameter {extra[0]!r}", f"{fix}; further values belong in the params model"
        )
    wrong, right = next((a, b) for a, b in zip(names, expected, strict=True) if a != b)
    raise InvalidDeclaration(f"parameter {wrong!r} must be named {right!r}", fix)


def resolve_annotations(function: Callable[..., Any], local_names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations as objects, even if they are written as strings.

    Raises:
        InvalidDeclaration: an annotation names something that does not exist at run time, or is not a type.
    """
    try:
        return typing.get_type_hints(function, localns=dict(local_names))
    except NameError as error:
        where = _annotation_with(function, error.name or "")
        raise InvalidDeclaration(
            f"the annotation {where} names {error.name!r}, which is not defined when the module is imported",
            f"import or define {error.name} above the function, and not only under `if TYPE_CHECKING:`",
        ) from None
    except Exception as error:  # noqa: BLE001 - an annotation may be any expression and fail in any way
        raise InvalidDeclaration(
            f"the annotations cannot be read: {type(error).__name__}: {error}", "write plain types as annotations"
        ) from None


def check_workspace(annotation: object) -> None:
    """Check that `workspace` is exactly `pathlib.Path`."""
    if annotation is Path:
        return
    if _is_optional(annotation):
        why = "is always given, so it cannot be Optional"
    elif annotation is str:
        why = "is a pathlib.Path, not a str"
    elif isinstance(annotation, type) and issubclass(annotation, PurePath):
        why = f"is a pathlib.Path, not a {annotation.__name__}"
    else:
        why = f"is a pathlib.Path, not {_spelled(annotation)}"
    raise InvalidDeclaration(f"parameter 'workspace' {why}", "write `workspace: Path` (from pathlib import Path)")


def check_model(annotation: object, what: str) -> type[BaseModel]:
    """Return the annotation, if it is a pydantic model whose JSON is always an object.

    Raises:
        InvalidDeclaration: it is anything else; `what` names it, such as `parameter 'params'`.
    """
    declare = "declare a class that inherits from pydantic.BaseModel and use it"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is BaseModel:
            raise InvalidDeclaration(f"{what} is BaseModel itself, which has no fields", declare)
        _refuse_special_model(annotation, what)
        return annotation
    if annotation is None or annotation is type(None):
        raise InvalidDeclaration(f"{what} is None, not a pydantic model", "return a model; one without fields will do")
    spelled = _spelled(annotation)
    if _is_optional(annotation):
        raise InvalidDeclaration(
            f"{what} is {spelled}, but it is always there", "drop the Optional and use the model alone"
        )
    if _is_union(annotation):
        raise InvalidDeclaration(
            f"{what} is a union, {spelled}, not one model", "use one model with a discriminated union as its field"
        )
    raise InvalidDeclaration(f"{what} is {spelled}, not a pydantic model", declare)


def _refuse_special_model(model: type[BaseModel], what: str) -> None:
    if issubclass(model, RootModel):
        raise InvalidDeclaration(
            f"{what} is the RootModel {model.__name__}, but params and results are JSON objects",
            "wrap the value in a model with one field",
        )
    if model.__pydantic_generic_metadata__["parameters"]:
        raise InvalidDeclaration(
            f"{what} is the generic model {model.__name__} without its type", f"write {model.__name__}[...] with a type"
        )


def _is_union(annotation: object) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def _is_optional(annotation: object) -> bool:
    return _is_union(annotation) and type(None) in typing.get_args(annotation)


def _spelled(annotation: object) -> str:
    return inspect.formatannotation(annotation)


def _annotation_with(function: Callable[..., Any], name: str) -> str:
    """Name the annotation that mentions the name."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    for parameter, annotation in function.__annotations__.items():
        if isinstance(annotation, str) and word.search(annotation):
            return "of the result" if parameter == "return" else f"of parameter {parameter!r}"
    return "of a parameter"
