"""The parts of a workflow that may not run, or run several times: cases of a switch and rounds of a loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from enum import Enum
from string import Formatter
from typing import Any, Literal, cast

from perago.authoring.declaration import InvalidDeclaration
from perago.workflows.values import Recorded, Scope, Value, fits, is_value_of, recorded, refuse_step, spelled
from perago.workflows.writer import Ends, Frame, Json, Writer


class Loop:
    """The loop that is being written."""

    def __init__(self) -> None:
        self._until: Recorded | None = None
        self._is_done = False

    def until(self, condition: bool) -> None:
        """End the loop after the round in which this result of a step in it is true."""
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

    def __init__(self, _writer: Writer, _name: str, _value: Recorded) -> None:
        self._writer = _writer
        self._name = _name
        self._value = _value
        self._frames: dict[str | None, Frame] = {}
        self._body = _writer.current
        """The part of the switch outside of its cases."""

    def case(self, value: object) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if the value is this one."""
        value = value.value if isinstance(value, Enum) else value
        kind = self._value.annotation
        if isinstance(value, bool) or not isinstance(value, str | int):
            self._writer.report(f"case {value!r} is not a text or an integer", "compare a field of such a type")
        elif not is_value_of(value, kind):
            rule = f"case {value!r} never comes: {self._value.shown} is {spelled(kind)}"
            self._writer.report(rule, "write one of its values")
        return self._write(str(value))

    def default(self) -> contextlib.AbstractContextManager[None]:
        """Write the steps that run if no case has the value."""
        return self._write(None)

    @contextlib.contextmanager
    def _write(self, key: str | None) -> Iterator[None]:
        if self._writer.current is not self._body:
            rule = f"the case {key or 'default'} of switch {self._name!r} is not directly in its switch"
            raise InvalidDeclaration(rule, "write it in the `with` of the switch, next to the other cases")
        if key in self._frames:
            self._writer.report(f"switch {self._name!r} has the case {key or 'default'} twice", "join the two")
        with self._writer.frame("case", f"{self._name}, case {key or 'default'}") as frame:
            self._frames[key] = frame
            yield


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
            return
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
            self._writer.report(f"{label}: Conductor would read '${{' in it as an expression", "give it without '${'")
        return str(content)

    def switch(self, name: str, value: object, /) -> contextlib.AbstractContextManager[Switch]:
        """Write cases of which one runs: the one that has the value, or the default."""
        return self._writer.to_open(f"switch {name!r}", self._switch(name, value))

    @contextlib.contextmanager
    def _switch(self, name: str, value: object) -> Iterator[Switch]:
        refuse_step(value)
        reference = self._writer.claim(name)
        if not isinstance(value, Value):
            raise InvalidDeclaration(f"switch {name!r}: {value!r} is known while the workflow is written", "use if")
        content = self._writer.use(recorded(value), [])
        with self._writer.frame("case", name) as body:
            body.is_closed = True
            switch = Switch(self._writer, name, recorded(value))
            yield switch
        if not any(frame.tasks for frame in switch._frames.values()):
            self._writer.report(f"switch {name!r} has no case with a step", "add one")
        elif switch._frames.keys() == {None}:
            self._writer.report(
                f"switch {name!r} has only a default", "add a case, or write its steps without a switch"
            )
        self._append_switch(name, reference, content, {key: frame.tasks for key, frame in switch._frames.items()})
        frames = list(switch._frames.values())
        ends = [head for frame in frames if frame.has_workspace for head in frame.heads]
        self._writer.leave(frames, [*self._writer.current.heads, *ends])

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
        else:
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
            self._append_switch(f"{name}_done", self._writer.claim(name, "_done"), loop._until.content, cases)
        elif on_exhausted == "fail":
            self._writer.report(f"loop {name!r} always fails, because it has no until()", "call loop.until()")
        elif on_exhausted is None and loop._until is not None:
            rule = f"loop {name!r} may end after {at_most} rounds although it is not done"
            self._writer.warn(rule, 'write on_exhausted="fail", or on_exhausted="continue" if this is fine')

    def _append_switch(self, name: str, reference: str, content: Any, cases: Mapping[str | None, list[Json]]) -> None:
        """Add a SWITCH over a value. The tasks of the case None run if no other case has the value."""
        task = {
            "type": "SWITCH",
            "evaluatorType": "value-param",
            "expression": "value",
            "inputParameters": {"value": content},
            "decisionCases": {key: tasks for key, tasks in cases.items() if key is not None},
            "defaultCase": cases.get(None, []),
        }
        self._writer.append(name, reference, task)

    def _condition(self, name: str, condition: Recorded, scope: Scope) -> str:
        self._writer.use(condition, [])
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
        return f"$.{condition.reference}" + "".join(f"['{key}']" for key in condition.path or ())
