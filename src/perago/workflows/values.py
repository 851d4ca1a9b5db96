"""Values that exist only while a workflow runs, and check whether their types fit their places.

The parameters of a workflow and the result of a step are shown to the author, and to mypy, as instances of their
models. At build time each is a `Value`: it records which field is read, and refuses to be used as if it existed.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeGuard, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import ComputedFieldInfo, FieldInfo

from perago.authoring.declaration import InvalidDeclaration
from perago.taskdef.compatibility import AffectedParty, affected_by, schema_changes
from perago.taskdef.schema import inline, same_json

R = TypeVar("R")


class FailedWorkflow(BaseModel):
    """The parameters of a workflow that runs after the failure of another one.

    A subclass can have fields of the failed workflow's parameters, too.
    """

    workflow_id: str = Field(alias="workflowId")
    """The id of the failed workflow."""
    reason: str
    """The text that Conductor gives as the reason."""
    status: str = Field(alias="failureStatus")
    """FAILED, TIMED_OUT or TERMINATED."""


UNCHECKED = object()
"""The type of a value that the author has marked with `flow.unchecked`; it fits everywhere."""

NO_EXPRESSION = "give it without '${'"

_ADDRESS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """A part of a workflow that may not run, may run several times, or runs next to others."""

    kind: Literal["flow", "branch", "case", "loop", "item", "optional"]
    name: str
    parent: Scope | None = None

    def __iter__(self) -> Iterator[Scope]:
        """The scope and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(frozen=True, slots=True)
class Item:
    """The place of one item of a `flow.map` in the input of its step; `path` leads into the item."""

    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A value that has been written down.

    `content` is JSON with expressions such as `${clean.output.result.rows}` in it, `path` leads to the value in the
    output of the step `reference`. A value that was put together has no path.
    """

    content: Any
    shown: str
    annotation: Any
    scopes: tuple[Scope, ...]
    reference: str = ""
    path: tuple[str, ...] | None = None
    read: Callable[[str], None] | None = None
    """Called with each field that is read."""
    comparison: tuple[str, Any] | None = None
    """The operator, as in JavaScript, and the constant that the value is compared with."""

    @property
    def is_written(self) -> bool:
        """Whether its JSON has the names of results, and not those of parameters."""
        return self.reference != "workflow" and self.path is not None

    def field(self, name: str) -> Recorded:
        """The value of a field.

        Raises:
            InvalidDeclaration: there is no such field, or it cannot be read while the workflow is written.
        """
        model = self.annotation
        shown = f"{self.shown}.{name}"
        if model in (Any, UNCHECKED) and self.path is not None:
            return self._below(shown, name, model)
        if not _is_model(model):
            raise InvalidDeclaration(
                f"{shown}: {self.shown} is {spelled(model)}, so it has no fields that a workflow can read",
                "give the value as it is, and read the field in the task",
            )
        computed = model.model_computed_fields if self.is_written else {}  # parameters do not have them
        known: Mapping[str, FieldInfo | ComputedFieldInfo] = {**model.model_fields, **computed}
        info = known.get(name)
        if info is None:
            listed = ", ".join(known) or "no field"
            rule = f"{shown}: {model.__name__} has no field {name!r}; it has {listed}"
            raise InvalidDeclaration(rule, nearest(name, known))
        if self.path is None:
            raise InvalidDeclaration(f"{shown}: {self.shown} was put together here", "use the value that was put in")
        if self.read is not None:
            self.read(name)
        is_sent = self.reference == "workflow"
        key = sent_name(name, info) if is_sent and isinstance(info, FieldInfo) else reported_name(name, info)
        if key is None or not _ADDRESS.fullmatch(key):
            raise InvalidDeclaration(
                f"{shown}: Conductor cannot read the JSON name {key!r} in an expression",
                "give the field a name of letters, digits and underscores",
            )
        annotation = info.annotation if isinstance(info, FieldInfo) else info.return_type
        return self._below(shown, key, annotation)

    def _below(self, shown: str, key: str, annotation: Any) -> Recorded:
        path = (*(self.path or ()), key)
        content = Item(path) if isinstance(self.content, Item) else expression(self.reference, path)
        return replace(self, content=content, shown=shown, annotation=annotation, path=path, read=None)


def expression(reference: str, path: Sequence[str]) -> str:
    """Conductor's expression for a part of an output, or of the input of the workflow."""
    return f"${{{'.'.join((reference, 'input' if reference == 'workflow' else 'output', *path))}}}"


class Value:
    """Represents a model, a field or an item that exists only while the workflow runs.

    It has no public attributes, because each name is a field of the represented value.
    """

    __slots__ = ("__recorded",)

    def __init__(self, recorded: Recorded) -> None:
        object.__setattr__(self, "_Value__recorded", recorded)

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__"):  # what copy, pickle and inspect look for
            raise AttributeError(name)
        return Value(recorded(self).field(name))

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, _: object) -> Value:
        return self


def recorded(value: Value) -> Recorded:
    """The record of a value."""
    record: Recorded = object.__getattribute__(value, "_Value__recorded")
    return record


class Step(Generic[R]):
    """A step of a workflow. `result` represents the future result of its task."""

    def __init__(self, name: str, _result: Recorded) -> None:
        self.name = name
        self._result = _result

    @property
    def result(self) -> R:
        """The result of the step, as a value for later steps."""
        return typing.cast("R", Value(self._result))

    if not typing.TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # what copy, pickle and inspect look for
                raise AttributeError(name)
            raise InvalidDeclaration(f"step {self.name!r} has no {name!r}", f"read a field as .result.{name}")

    def __str__(self) -> str:
        raise InvalidDeclaration(f"step {self.name!r} is used as a text", "give its result as a parameter of a step")


def refuse_step(argument: object) -> None:
    """Refuse a step in place of a value.

    Raises:
        InvalidDeclaration: it is a step.
    """
    if isinstance(argument, Step):
        raise InvalidDeclaration(f"step {argument.name!r} is given, not its result", "write .result after the step")


_ITEMS = "flow.map for each of its items, or give the list to a step and read it in the task"
_MISUSE = {
    (
        "flow.when, flow.switch or until(); in place of `and`, `or`, `not`, `in` and 0 < value < 9, put one flow.when "
        "into another, write a case for each value, or let a step return a bool"
    ): "bool",
    _ITEMS: "iter len contains getitem reversed",
    "the value as a parameter of a step; flow.fail fills in {NAME} in its reason": "str format",
    "the value as a parameter of a step, and do this in the task": (
        "repr int float index hash neg abs call pos invert round bytes fspath setattr delattr setitem "
        "add sub mul truediv floordiv mod matmul pow and or xor "
        "radd rsub rmul rtruediv rfloordiv rmod rmatmul rpow rand ror rxor"
    ),
}
"""The methods by which Python would use a value, without their underscores, with what to use instead."""


def _refusing(instead: str) -> Callable[..., Any]:
    def refuse(self: Value, *_: object) -> Any:
        record = recorded(self)
        advice = instead
        if record.annotation is Any and instead == _ITEMS:  # of a raw step, whose output is an object
            advice = (
                "its fields, such as .result.FIELD; flow.map(name, flow.unchecked(.result.FIELD), ...) takes a list"
            )
        elif instead == _ITEMS and element_of(record.annotation, "list") is None:
            advice = "its fields, or give it to a step and read it in the task"
        raise InvalidDeclaration(
            f"{record.shown} has no value while the workflow is written: it exists when the workflow runs",
            f"use {advice}",
        )

    return refuse


def _comparing(operator: str) -> Callable[..., Any]:
    def compare(self: Value, other: object) -> Value:
        record, constant = recorded(self), other.value if isinstance(other, enum.Enum) else other
        if isinstance(constant, Value | Step) or record.comparison is not None:
            rule = f"{record.shown} is compared with a value that exists only when the workflow runs"
            raise InvalidDeclaration(rule, "compare it with a constant, or let a step return a bool")
        if operator in _EQUALITY:
            is_possible = isinstance(constant, str | int | float) and is_value_of(constant, record.annotation)
        else:
            is_possible = type(constant) in (int, float) and _is_number(record.annotation)
        shown = f"{record.shown} {operator} {constant!r}"
        is_exact = not isinstance(constant, int | float) or abs(constant) <= _LARGEST_EXACT
        if not is_possible or not is_exact or "${" in shown:
            rule = f"{shown}: {record.shown} is {spelled(record.annotation)}, which cannot be compared like this"
            raise InvalidDeclaration(rule, "compare it with a text, a number or a bool of its type")
        comparison = (_EQUALITY.get(operator, operator), constant)
        return Value(replace(record, shown=shown, annotation=bool, comparison=comparison))

    return compare


_EQUALITY = {"==": "===", "!=": "!=="}
_LARGEST_EXACT = 2**53
"""The largest number up to which JavaScript has every integer."""
for _method, _operator in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    setattr(Value, f"__{_method}__", _comparing(_operator))
for _instead, _methods in _MISUSE.items():
    for _method in _methods.split():
        setattr(Value, f"__{_method}__", _refusing(_instead))


def contains_value(argument: object) -> bool:
    """Whether the argument contains a value that does not exist yet."""
    match argument:
        case Value() | Step():
            return True
        case Mapping():
            return any(map(contains_value, argument.values()))
        case list() | tuple():
            return any(map(contains_value, argument))
    return False


def sent_name(name: str, field: FieldInfo) -> str | None:
    """The key under which a field of parameters is sent; None if it is not one key."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = getattr(alias, "choices", None)
    if choices:
        alias = next((choice for choice in choices if isinstance(choice, str)), alias)
    return name if alias is None else alias if isinstance(alias, str) else None


def inputs_of(model: type[BaseModel], report: Callable[[str, str], None]) -> dict[str, tuple[Any] | None]:
    """The keys of the JSON of a model, each with the JSON of its default, which Conductor fills in."""
    inputs: dict[str, tuple[Any] | None] = {}
    for name, field in model.model_fields.items():
        key, label = sent_name(name, field), f"{model.__name__}.{name}"
        if key is None or key == "workspace":
            report(f"{label} cannot be sent as {key!r}", "give the field another name")
            continue
        inputs[key] = None
        if field.is_required():
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        try:
            default, again = (
                adapter.dump_python(
                    field.get_default(call_default_factory=True, validated_data={}),
                    mode="json",
                    by_alias=True,
                    warnings=False,
                )
                for _ in range(2)
            )
            json.dumps(default, allow_nan=False)
        except Exception as error:  # noqa: BLE001 - factories and serializers of the author may fail in any way
            rule = f"{label} has no default that JSON can hold: {type(error).__name__}: {error}"
            report(rule, "make it a required field")
            continue
        if default != again:
            report(f"{label} has another default each time", "make it a required field")
        inputs[key] = (default,)
    return inputs


def reported_name(name: str, field: FieldInfo | ComputedFieldInfo) -> str:
    """The key under which a field of a result is written."""
    alias = field.serialization_alias if isinstance(field, FieldInfo) else None
    return alias or field.alias or name


def spelled(annotation: object) -> str:
    """Return a type in the author's spelling."""
    if annotation is UNCHECKED:
        return "unchecked"
    return annotation.__name__ if isinstance(annotation, type) else inspect.formatannotation(annotation)


def nearest(name: str, known: Collection[str], otherwise: str = "use one of its fields") -> str:
    """The advice for a name that does not exist."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


class Documents:
    """Writes arguments of a model as JSON with expressions in place of values.

    `use` is called with each value, and returns its JSON; `report` with the rule and the fix of each problem.
    """

    def __init__(
        self, use: Callable[[Recorded], Any], report: Callable[[str, str], None], *, is_sent: bool = False
    ) -> None:
        """`is_sent`: the JSON is read as parameters, and not only put together."""
        self._is_sent = is_sent
        self._use = use
        self._reporter = report
        self._problems = 0

    def of_model(self, model: type[BaseModel], arguments: Mapping[str, Any], label: str) -> dict[str, Any]:
        """The JSON of a model that is called with these arguments. Defaults are left to the model.

        `label` names the place, such as `step 'clean': Params`.
        """
        before = self._problems
        names = {called_name(name, field): name for name, field in model.model_fields.items()}
        if model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"):
            names |= {name: name for name in model.model_fields}
        document: dict[str, Any] = {}
        for called, value in arguments.items():
            name = names.get(called)
            if name is None:
                listed = ", ".join(names) or "no field"
                self._report(f"{label} has no field {called!r}; it has {listed}", nearest(called, names))
                continue
            field = model.model_fields[name]
            key = sent_name(name, field)
            if key is None:
                self._report(f"{label}.{name} is sent by an AliasPath, not by a key", "give it a plain alias")
            else:
                document[key] = self.convert(value, field.rebuild_annotation(), f"{label}.{name}")
        filled = {names[called] for called in arguments if called in names}
        missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in filled]
        for name in missing:
            self._report(f"{label}.{name} is required and not given", f"add {name}=...")
        if self._problems == before and not contains_value(arguments):
            self._validate(lambda: model(**arguments), label)  # what the model checks of several fields
        return document

    def convert(self, argument: Any, annotation: Any, label: str) -> Any:
        """Return the JSON of an argument for a type. `label` names the place, such as `Params.rows`."""
        refuse_step(argument)
        if isinstance(argument, Value):
            record = recorded(argument)
            if not fits(record.annotation, annotation):
                self._report(
                    f"{label} takes {spelled(_plain(annotation))}, but {record.shown} is {spelled(record.annotation)}",
                    "give a value of that type; flow.unchecked(value) skips the check",
                )
            elif self._is_sent and record.is_written and record.annotation == _plain(annotation):
                for model, name in renamed_fields(record.annotation):
                    self._report(
                        f"{label} reads {model}.{name} under another name than {record.shown} is written with",
                        f"give {model}.{name} the same validation_alias and serialization_alias",
                    )
            return self._use(record)
        if not contains_value(argument):
            return self._constant(argument, annotation, label)
        element = element_of(annotation, "mapping" if isinstance(argument, Mapping) else "list")
        if element is None:
            kind, plain = "a mapping" if isinstance(argument, Mapping) else "a list", _plain(annotation)
            fix = f"write flow.value({plain.__name__}, FIELD=...)" if _is_model(plain) else "give one value"
            self._report(f"{label} takes {spelled(plain)}, not {kind}", fix)
            element = UNCHECKED
        if isinstance(argument, Mapping):
            keys = {key: self._key(key, label) for key in argument}
            return {keys[key]: self.convert(value, element, f"{label}[{key!r}]") for key, value in argument.items()}
        elements = [element] * len(argument)
        if _has_places(_plain(annotation)):
            elements = list(typing.get_args(_plain(annotation)))
            if len(elements) != len(argument):
                self._report(f"{label} takes {len(elements)} items, not {len(argument)}", "give one for each place")
        pairs = enumerate(zip(argument, elements, strict=False))
        return [self.convert(value, kind, f"{label}[{index}]") for index, (value, kind) in pairs]

    def _key(self, key: object, label: str) -> str:
        """The JSON of a key of a mapping that contains values."""
        plain = key.value if isinstance(key, enum.Enum) else key
        if isinstance(plain, bool) or not isinstance(plain, str | int):
            self._report(f"{label}: the key {key!r} is not a text or an integer", "give another key")
        elif "${" in str(plain):
            self._report(f"{label}: Conductor would read '${{' in the key {key!r} as an expression", NO_EXPRESSION)
        return str(plain)

    def _constant(self, constant: Any, annotation: Any, label: str) -> Any:
        if annotation is UNCHECKED:
            annotation = Any
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        read = self._validate(lambda: adapter.validate_python(constant), label)
        if read is None:
            return None
        try:
            document = adapter.dump_python(read[0], mode="json", by_alias=True, round_trip=True, warnings="error")
            same = adapter.validate_json(json.dumps(document, allow_nan=False)) == read[0]
        except Exception:  # noqa: BLE001 - serializers and comparisons are the author's
            document, same = None, False
        if not same:
            self._report(f"{label}: the value changes when it is written as JSON", "give a value that JSON can hold")
        if "${" in json.dumps(document):
            self._report(f"{label}: Conductor would read '${{' in it as an expression", NO_EXPRESSION)
        return document

    def _report(self, rule: str, fix: str) -> None:
        self._problems += 1
        self._reporter(rule, fix)

    def _validate(self, read: Callable[[], Any], label: str) -> tuple[Any] | None:
        try:
            return (read(),)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                where = ".".join((label, *map(str, details["loc"])))
                self._report(f"{where}: {details['msg']}", "correct the value")
        except Exception as error:  # noqa: BLE001 - a validator of the author may fail in any way
            self._report(f"{label}: {type(error).__name__}: {error}", "correct the value")
        return None


def called_name(name: str, field: FieldInfo) -> str:
    """The keyword for a field where its model is called."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    return alias if isinstance(alias, str) and alias.isidentifier() else name


# ------------------------------------------------------------------------------ types


def fits(source: Any, target: Any) -> bool:
    """Whether each value of `source` is a value of `target`, by their types.

    The annotations are compared first. If they do not decide, the schema of the written source must not be wider than
    that of the read target. Types that cannot be judged do not fit.
    """
    if source is UNCHECKED or target is UNCHECKED:
        return True
    source, target = _plain(source), _plain(target)
    if target in (Any, object) or source == target:
        return True
    if source is Any:
        return False
    if _is_union(source):
        return all(fits(member, target) for member in typing.get_args(source))
    if _is_union(target):
        return any(fits(source, member) for member in typing.get_args(target)) or _schemas_fit(source, target)
    if typing.get_origin(source) is Literal and typing.get_origin(target) is not Literal:
        return all(fits(type(option), target) for option in typing.get_args(source))
    if isinstance(source, type) and target in (str, int, float):
        return issubclass(source, target) or (source is int and target is float) or _schemas_fit(source, target)
    if _is_model(source) and _is_model(target) and target.model_config.get("extra") != "forbid":
        return issubclass(source, target) or _schemas_fit(source, target)
    for kind in ("list", "mapping"):
        inner, outer = element_of(source, kind), element_of(target, kind)
        if inner is not None and outer is not None and not _has_places(target):
            return fits(inner, outer) and (kind == "list" or _keys_fit(source, target))
    return _schemas_fit(source, target)


def _has_places(annotation: Any) -> bool:
    """Whether a type is a tuple with a type for each place."""
    arguments = typing.get_args(annotation)
    return typing.get_origin(annotation) is tuple and arguments[1:] != (Ellipsis,)


def _keys_fit(source: Any, target: Any) -> bool:
    """Whether the keys of a mapping are keys of another. In JSON they are text."""
    written, read = ((*typing.get_args(mapping), Any)[0] for mapping in (source, target))
    return read in (Any, str) or written == read


def renamed_fields(annotation: Any) -> Iterator[tuple[str, str]]:
    """The models and fields of a type that are written under another name than they are read."""
    for argument in typing.get_args(annotation):
        yield from renamed_fields(argument)
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if reported_name(name, field) != sent_name(name, field):
                yield annotation.__name__, name


def is_value_of(value: object, annotation: Any) -> bool:
    """Whether a constant is one of the values of a type, as JSON has it."""
    try:
        TypeAdapter(Any if annotation is UNCHECKED else annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def _is_number(annotation: Any) -> bool:
    """Whether each value of a type is a number or None."""
    annotation = _plain(annotation)
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return all(member in (Any, types.NoneType) or fits(member, float) for member in members)


def texts_of(annotation: Any) -> Mapping[str, object]:
    """The texts of all values of a bool, an enum, a literal or a union of these, as Conductor compares them with the
    cases of a switch; empty for other types."""
    annotation = _plain(annotation)
    options: Sequence[object]
    if _is_union(annotation):
        members = [texts_of(member) for member in typing.get_args(annotation)]
        return {text: option for texts in members for text, option in texts.items()} if all(members) else {}
    if annotation is types.NoneType:
        options = [None]
    elif annotation is bool:
        options = [True, False]
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        options = list(annotation)
    else:
        options = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    return {case_text(option): option for option in options}


def case_text(option: object) -> str:
    """The text that Conductor has for a value of a switch."""
    constant = option.value if isinstance(option, enum.Enum) else option
    return constant if isinstance(constant, str) else json.dumps(constant)


def _schemas_fit(source: Any, target: Any) -> bool:
    try:
        written = inline(TypeAdapter(source).json_schema(mode="serialization"))
        read = inline(TypeAdapter(target).json_schema(mode="validation"))
    except Exception:  # noqa: BLE001 - a type without a schema, in pydantic's and the author's ways
        return False
    return same_json(written, read) or not affected_by(schema_changes("", written, read)) & AffectedParty.SENDERS


def element_of(annotation: Any, kind: str) -> Any:
    """Return the type of the items of a list or a mapping; None for other types."""
    annotation = _plain(annotation)
    if _is_union(annotation):
        elements = [element_of(member, kind) for member in typing.get_args(annotation)]
        return next((element for element in elements if element is not None), None)
    if annotation in (UNCHECKED, Any):
        return annotation
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if not isinstance(origin, type) or issubclass(origin, str | bytes):
        return None
    if kind == "mapping":
        return (arguments[1] if arguments else Any) if issubclass(origin, Mapping) else None
    if issubclass(origin, tuple) and arguments and arguments[1:] != (Ellipsis,):
        return typing.Union[arguments]  # noqa: UP007 - the members are known at run time only
    is_list = issubclass(origin, Sequence | Set)
    return (arguments[0] if arguments else Any) if is_list else None


def _plain(annotation: Any) -> Any:
    while hasattr(annotation, "__value__"):  # a type alias
        annotation = annotation.__value__
    return _plain(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is typing.Annotated else annotation


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
