"""The parts of a workflow that may not run, or run several times: cases of a switch and rounds of a loop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from string import Formatter
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel

from perago.authoring.declaration import InvalidDeclaration
from perago.workflows.values import (
    NO_EXPRESSION,
    Recorded,
    Scope,
    Value,
    case_text,
    fits,
    is_value_of,
    recorded,
    refuse_step,
    spelled,
    texts_of,
)
from perago.workflows.writer import Ends, Frame, Json, Writer


class Loop:
    """The loop that is being written."""

    def __init__(self) -> None:
        self._until: Recorded | None = None
        self._is_done = False

    def until(self, condition: bool) -> None:
        """End the loop after the round in which this result of a step in it, or a comparison of one, is true."""
        value: object = condition
        if not isinstance(value, Value):
            raise InvalidDeclaration("until() takes a bool result of a step in this loop", "give step.result.FIELD")
        if self._is_done:
            raise InvalidDeclaration("until() comes after its loop", "call it in the `with` of the loop")
        if self._until is not None:
            raise InvalidDeclaration("until() is called twice for one loop", "let a step return both as one bool")
        self._until = recorded(value)


class Switch:
    """The switch that is being written."""

    def __init__(self, _writer: Writer, _label: str, _value: Recorded) -> None:
        self._writer = _writer
        self._label = _label
        self._value = _value
        self._frames: dict[str | None, Frame] = {}
        self._body = _writer.current
        """The part of the switch outside of its cases."""

    def case(self, value: object) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if the value is this one."""
        value = value.value if isinstance(value, Enum) else value
        kind = self._value.annotation
        if not isinstance(value, str | int):
            fix = "write a text, an integer, a bool or a member of an enum; flow.when compares numbers"
            self._writer.report(f"case {value!r} is not a text, an integer or a bool", fix)
        elif not is_value_of(value, kind):
            rule = f"case {value!r} never comes: {self._value.shown} is {spelled(kind)}"
            self._writer.report(rule, "write one of its values")
        return self._write(case_text(value) if isinstance(value, str | int) else str(value))

    def default(self) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if no case has the value."""
        return self._write(None)

    @contextlib.contextmanager
    def _write(self, key: str | None) -> Iterator[None]:
        if self._writer.current is not self._body:
            rule = f"the case {key or 'default'} of {self._label} is not directly in its `with`"
            raise InvalidDeclaration(rule, "write it there, next to the other cases")
        if key in self._frames:
            self._writer.report(f"{self._label} has the case {key or 'default'} twice", "join the two")
        with self._writer.frame("case", f"{self._label}, case {key or 'default'}") as frame:
            self._frames[key] = frame
            yield

    def _fail_without_value(self, name: str, key: str | None) -> None:
        """Write a case for a missing value, which fails the workflow."""
        with self._write(key):
            reference = self._writer.claim(name, "_missing")
            self._writer.fail(f"{name}_missing", reference, f"{self._label}: {self._value.shown} has no value")


class When:
    """The condition that is being written."""

    def __init__(self, _switch: Switch) -> None:
        self._switch = _switch

    def then(self) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if the condition is true."""
        return self._switch._write("true")

    def otherwise(self) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if the condition is false."""
        return self._switch._write("false")


def _script(place: str, comparison: tuple[str, Any], missing: str) -> str:
    """JavaScript that compares the value at a place with a constant, or is `missing` if it is null or of another type.

    JavaScript would count null as 0.
    """
    operator, constant = comparison
    exists = f"{place} != null" if operator in ("===", "!==") else f"typeof {place} === 'number'"
    return f"({exists} ? {place} {operator} {json.dumps(constant)} : {missing})"


class _ChoosingFlow:
    """The part of a flow that writes choices and loops."""

    _writer: Writer

    def fail(self, name: str, reason: str, /, **values: object) -> None:
        """End the workflow as FAILED. `reason` is a text such as `"only {rows} rows"`, with `rows=` as one of `values`.

        Conductor does not retry such a workflow. `perago rerun` runs it again.
        """
        label = f"fail {name!r}"
        if isinstance(cast("object", reason), Value):
            reason, values = "{reason}", {"reason": reason, **values}
        texts = {key: self._text(f"{label}: {key}", value) for key, value in values.items()}
        try:
            named = {field for _, field, _, _ in Formatter().parse(reason)}
            text = self._text(label, reason).format_map(texts)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            rule = f"{label}: the reason {reason!r} cannot be filled in: {type(error).__name__}: {error}"
            self._writer.report(rule, "write {NAME} for each value, and give it as NAME=...")
            named, text = set(texts), "unknown"
        for key in texts.keys() - named:
            self._writer.report(f"{label}: the reason does not have {{{key}}}", f"write it, or remove {key}=")
        if not text.strip():
            self._writer.report(f"{label} has no reason", "say why the workflow fails")
        self._writer.fail(name, self._writer.claim(name), text)

    def _text(self, label: str, value: object) -> str:
        """Return a value as a part of a text."""
        refuse_step(value)
        content: object = value.value if isinstance(value, Enum) else value
        if isinstance(content, Value):
            content = self._writer.use(recorded(content), [])
            if not isinstance(content, str):
                self._writer.report(f"{label} is not a single value", "give one of its fields")
        elif "${" in str(content):
            self._writer.report(f"{label}: Conductor would read '${{' in it as an expression", NO_EXPRESSION)
        return str(content)

    def switch(self, name: str, value: object, /) -> contextlib.AbstractContextManager[Switch]:
        """Write cases of which one runs: the one that has the value, or the default."""
        return self._writer.to_open(f"switch {name!r}", self._switch(name, value))

    @contextlib.contextmanager
    def _switch(self, name: str, value: object) -> Iterator[Switch]:
        with self._choice("switch", name, value) as switch:
            kind, frames = switch._value.annotation, switch._frames
            if get_origin(kind) in (list, dict) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
                rule = f"switch {name!r}: {switch._value.shown} is {spelled(kind)}, which has no cases"
                raise InvalidDeclaration(rule, "give a text, an integer, a bool or an enum, such as one of its fields")
            yield switch
            if any(member is float for member in (kind, *get_args(kind))):
                rule = f"switch {name!r}: {switch._value.shown} is {spelled(kind)}, and floats are no cases"
                self._writer.report(rule, "compare it in flow.when")
            missing = [str(option) for text, option in texts_of(kind).items() if text not in frames]
            if missing and None not in frames:
                self._writer.warn(f"switch {name!r} has no case for {', '.join(missing)}", "write it, or a default")
            if frames.keys() - {None, "null"} and "null" not in frames and not is_value_of(None, kind):
                switch._fail_without_value(name, "null")

    def when(self, name: str, condition: bool, /) -> contextlib.AbstractContextManager[When]:
        """Write steps that run if a result or a comparison with a constant is true, and others if it is false.

        The workflow fails if the value is missing.
        """
        return self._writer.to_open(f"when {name!r}", self._when(name, condition))

    @contextlib.contextmanager
    def _when(self, name: str, condition: object) -> Iterator[When]:
        with self._choice("when", name, condition) as switch:
            kind, frames = switch._value.annotation, switch._frames
            if not fits(kind, bool):
                rule = f"when {name!r} takes bool, but {switch._value.shown} is {spelled(kind)}"
                self._writer.report(rule, "compare it with a constant, or let a step return a bool")
            yield When(switch)
            if any(frame.tasks for frame in frames.values()):
                for key in {"true", "false"} - frames.keys():
                    with switch._write(key):
                        """Nothing."""
                switch._fail_without_value(name, None)

    @contextlib.contextmanager
    def _choice(self, kind: str, name: str, value: object) -> Iterator[Switch]:
        label = f"{kind} {name!r}"
        refuse_step(value)
        reference = self._writer.claim(name)
        if not isinstance(value, Value):
            fix = "use if; where `is`, `in` or `not` has made it a bool, write a case, or let a step return a bool"
            raise InvalidDeclaration(f"{label}: {value!r} is known while the workflow is written", fix)
        chosen = recorded(value)
        self._writer.use(chosen if kind == "switch" else replace(chosen, comparison=None), [])
        with self._writer.frame("case", name) as body:
            body.is_closed = True
            switch = Switch(self._writer, label, chosen)
            yield switch
        frames = list(switch._frames.values())
        if not any(frame.tasks for frame in frames):
            self._writer.report(f"{label} has no case with a step", "add one")
        elif switch._frames.keys() == {None}:
            self._writer.report(f"{label} has only a default", "add a case, or write its steps without a switch")
        self._append_switch(name, reference, chosen, {key: frame.tasks for key, frame in switch._frames.items()})
        ends = [head for frame in frames if frame.has_workspace for head in frame.heads]
        self._writer.leave(frames, [*self._writer.current.heads, *ends])

    def _append_switch(
        self, name: str, reference: str, value: Recorded, cases: Mapping[str | None, list[Json]]
    ) -> None:
        """Add a SWITCH over a value. The tasks of the case None run if no other case has the value."""
        compared = value.comparison
        task = {
            "type": "SWITCH",
            "evaluatorType": "value-param" if compared is None else "graaljs",
            "expression": "value" if compared is None else _script("$.value", compared, "null"),
            "inputParameters": {"value": value.content},
            "decisionCases": {key: tasks for key, tasks in cases.items() if key is not None},
            "defaultCase": cases.get(None, []),
        }
        self._writer.append(name, reference, task)

    def loop(
        self, name: str, /, *, at_most: int, on_exhausted: Literal["fail", "continue"] | None = None
    ) -> contextlib.AbstractContextManager[Loop]:
        """Write steps that are repeated until `until()` holds, for at most `at_most` rounds.

        `on_exhausted` says what happens if it does not hold after the last round: the workflow fails, or continues.
        """
        return self._writer.to_open(f"loop {name!r}", self._loop(name, at_most, on_exhausted))

    @contextlib.contextmanager
    def _loop(self, name: str, at_most: int, on_exhausted: str | None) -> Iterator[Loop]:
        if any(scope.kind == "loop" for scope in self._writer.current.scope):
            self._writer.report(f"loop {name!r} is inside of a loop", "put the inner loop into a sub-workflow")
        if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
            self._writer.report(f"loop {name!r}: at_most={at_most!r} is not a number of rounds", "write at_most=10")
        if on_exhausted not in (None, "fail", "continue"):
            rule = f"loop {name!r}: on_exhausted={on_exhausted!r} is not 'fail' or 'continue'"
            self._writer.report(rule, 'write on_exhausted="fail"')
        reference = self._writer.claim(name)
        loop, ends, before = Loop(), Ends(), self._writer.current.heads
        with self._writer.frame("loop", name, self._writer.current.suffix) as frame:
            frame.heads = (*before, ends)
            yield loop
        loop._is_done = True
        self._writer.open.discard(frame.scope)
        if not frame.tasks:
            self._writer.report(f"loop {name!r} has no step", "add one")
        self._writer.check_rounds(f"loop {name!r}", frame, ends)
        ends.heads = frame.heads if frame.has_workspace else ()
        condition = f"$.{reference}['iteration'] < {at_most}"
        if loop._until is not None:
            condition += f" && !({self._condition(name, loop._until, frame.scope)})"
        elif on_exhausted != "fail":
            rule = f"loop {name!r} has no until(), so it always runs {at_most} rounds"
            self._writer.warn(rule, "call loop.until(step.result.FIELD) in its `with` to end it earlier")
        task = {"type": "DO_WHILE", "inputParameters": {}, "loopCondition": condition, "loopOver": frame.tasks}
        self._writer.append(name, reference, task)
        self._writer.leave([frame], [*before, ends])
        if on_exhausted == "fail" and loop._until is not None:
            with self._writer.frame("case", name) as exhausted:
                reason = f"loop {name} was not done after {at_most} rounds"
                self._writer.fail(f"{name}_exhausted", self._writer.claim(name, "_exhausted"), reason)
            cases: dict[str | None, list[Json]] = {"true": [], None: exhausted.tasks}
            self._append_switch(f"{name}_done", self._writer.claim(name, "_done"), loop._until, cases)
        elif on_exhausted == "fail":
            self._writer.report(f"loop {name!r} always fails, because it has no until()", "call loop.until()")
        elif on_exhausted is None and loop._until is not None:
            rule = f"loop {name!r} may end after {at_most} rounds although it is not done"
            self._writer.warn(rule, 'write on_exhausted="fail", or on_exhausted="continue" if this is fine')

    def _condition(self, name: str, condition: Recorded, scope: Scope) -> str:
        self._writer.use(replace(condition, comparison=None), [])
        is_inside = any(scope in tuple(inner) for inner in condition.scopes)
        if condition.path is None or not is_inside or condition.reference in ("", "workflow"):
            self._writer.report(
                f"loop {name!r}: {condition.shown} is not a result of a step in this loop",
                "give until() a field of such a result",
            )
        if not fits(condition.annotation, bool):
            self._writer.report(
                f"loop {name!r}: until() takes bool, but {condition.shown} is {spelled(condition.annotation)}",
                "let a step return a bool",
            )
        place = f"$.{condition.reference}" + "".join(f"['{key}']" for key in condition.path or ())
        return place if condition.comparison is None else _script(place, condition.comparison, "false")
