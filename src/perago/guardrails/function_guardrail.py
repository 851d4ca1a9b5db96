"""`@guardrail`: a rule that an author writes as a function of the workspace, called with a time limit."""

from __future__ import annotations

import contextvars
import dis
import inspect
import re
import sys
import threading
import time
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, TypeAlias, overload

from perago.authoring.declaration import (
    InvalidDeclaration,
    Location,
    calling_line,
    calling_locals,
    check_default,
    check_kind,
    check_workspace,
    readable_path,
    require_function,
    resolve_annotations,
)
from perago.authoring.workspace import GuardrailFunction, Listing, Verdict
from perago.guardrails.evaluation import ContentGuardrail, GuardrailDefect
from perago.text import listing, one_line, quoted
from perago.workspace.scan import Tree, WorkspaceError, scan_tree

_MAY_WAIT = sys.version_info >= (3, 12)
"""Whether an exception can wait for a thread that runs C code. In Python 3.11, no other traced thread (coverage, a
debugger) can enter a function in the meantime."""
_SAMPLES = 20
"""Number of looks at the frame of a thread."""
_SAMPLE_INTERVAL = 0.01


class LimitedCall(threading.Thread):
    """A call in its own thread, so that an attempt continues after the time limit, even if the call is busy in C.

    A thread cannot be killed. A late thread is asked to end, and a worker process whose thread does not end is
    replaced.
    """

    def __init__(self, call: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._call = call
        self._context = contextvars.copy_context()
        self.answer: object = None
        self.error: BaseException | None = None
        """The exception of the call. It must not be mistaken for an exception of perago."""

    def run(self) -> None:
        """Make the call."""
        try:
            self.answer = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - a thread has no one to raise it to
            self.error = error

    def ends_within(self, seconds: float) -> bool:
        """Start the call, and wait up to `seconds` for its end."""
        self.start()
        is_late = True
        try:
            self.join(seconds)
            is_late = self.is_alive()
        finally:  # a canceled attempt comes this way, too
            if is_late and self.ident is not None and (_MAY_WAIT or _is_in_python(self.ident)):
                import ctypes  # rarely needed

                # Raise SystemExit in the thread, at its next step in Python.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(SystemExit))
        return not is_late


def place_of(error: BaseException, function: Callable[..., Any]) -> str | None:
    """Return the innermost line of the exception in the function's own file, as `file:line`."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f"{readable_path(file)}:{lines[-1]}" if file and lines else None


def traceback_of(error: BaseException) -> str:
    """Return the traceback without the leading frames of this module."""
    shown = error.__traceback__
    while shown is not None and Path(shown.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        shown = shown.tb_next
    return "".join(traceback.format_exception(type(error), error, shown))


def _is_in_python(ident: int) -> bool:
    """Whether the thread is executing Python code, and not waiting in C code."""
    positions = set()
    for _ in range(_SAMPLES):
        frame = sys._current_frames().get(ident)
        if frame is None:
            return False
        positions.add((frame.f_code, frame.f_lasti))
        step = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if len(positions) > 1 or step == "RESUME" or "JUMP_BACKWARD" in step:  # where Python itself changes threads
            return True
        time.sleep(_SAMPLE_INTERVAL)
    return False


Judge: TypeAlias = Callable[[Path], "str | list[str] | None"]
"""Returns the problems of the workspace: None or no text, a text, or several texts."""

DEFAULT_SECONDS = 60.0
_MOST_SECONDS = 86_400.0
_LONGEST = 500
"""Maximum length of one complaint, because a reason in Conductor cannot be longer."""

_NAME = re.compile(r"\w[\w.-]{0,99}")
_SIGNATURE = "(workspace: Path) -> str | None"
_ANSWERS = (str, list[str], type(None))


@dataclass(frozen=True, slots=True)
class FunctionGuardrail(ContentGuardrail, GuardrailFunction):
    """A rule of the author, with its function and the time limit of a call."""

    selects_files: ClassVar[bool] = False
    name: str
    function: Judge = field(repr=False)
    seconds: float = DEFAULT_SECONDS
    """The limit of one call."""
    location: Location = field(default=Location("", 0), compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self, workspace: Path) -> str | list[str] | None:
        return self.function(workspace)

    @property
    def label(self) -> str:
        return self.name

    def evaluate(self, tree: Listing) -> Verdict:
        """Accept every listing, because the function needs the files."""
        return Verdict(len(tree.sizes))

    def reads(self, path: str) -> bool:  # noqa: ARG002 - it may open any file
        return True

    def evaluate_contents(self, tree: Tree) -> Verdict:
        call = LimitedCall(lambda: self.function(tree.root), f"guardrail {self.name}")
        if not call.ends_within(self.seconds):
            raise GuardrailDefect(
                f"did not end within {self.seconds:g} s ({self.location.readable}). Make it faster, or give it more "
                "time: @guardrail(seconds=...)"
            )
        if call.error is not None:
            what = one_line(f"{type(call.error).__name__}: {call.error}".rstrip(": "), _LONGEST)
            place = place_of(call.error, self.function) or self.location.readable
            raise GuardrailDefect(
                f"raised {what} at {place}. This is a bug in the guardrail, not in the data. "
                "To reject data, return a text",
                detail=traceback_of(call.error),
            )
        changes = _changes(tree)
        if changes:
            raise GuardrailDefect(
                f"changed the workspace ({self.location.readable}): {changes}. A guardrail must only read",
                has_changed_the_tree=True,
            )
        complaints = self._complaints(call.answer)
        return Verdict(len(tree.files), listing([one_line(text, _LONGEST) for text in complaints]) or None)

    def _complaints(self, answer: object) -> Sequence[str]:
        """Return the complaints.

        Raises:
            GuardrailDefect: the answer is not text.
        """
        if answer is None:
            return ()
        complaints = [answer] if isinstance(answer, str) else answer
        if not isinstance(complaints, list) or not all(isinstance(text, str) for text in complaints):
            raise GuardrailDefect(
                f"returned {_kind(answer)} ({self.location.readable}). Return None if the workspace is valid, "
                "or a str or a list of str that says what is wrong"
            )
        if not all(text.strip() for text in complaints):
            raise GuardrailDefect(
                f"returned an empty text ({self.location.readable}). Say what is wrong, or return None if nothing is"
            )
        return complaints


@overload
def guardrail(function: Judge, /) -> GuardrailFunction: ...
@overload
def guardrail(*, name: str | None = None, seconds: float = DEFAULT_SECONDS) -> Callable[[Judge], GuardrailFunction]: ...
def guardrail(
    function: Judge | None = None, /, *, name: str | None = None, seconds: float = DEFAULT_SECONDS
) -> GuardrailFunction | Callable[[Judge], GuardrailFunction]:
    """Make a guardrail of a function `(workspace: Path) -> str | list[str] | None` that only reads the workspace.

    None accepts the workspace. A text, or each text of a list, describes a problem. Any other outcome is a defect of
    the guardrail: the attempt fails, a retry is possible, and the reason names file and line.

        @guardrail
        def has_header(workspace: Path) -> str | None:
            first = (workspace / "raw/a.csv").read_text().partition("\\n")[0]
            return None if first == "x,y" else "raw/a.csv has another header than x,y"

    Args:
        function: passed by Python if the decorator has no parentheses.
        name: the name in messages, reports and tests; by default the name of the function.
        seconds: the time limit of one call.

    Raises:
        TaskDefinitionError: the signature, the name or the limit is not valid.
    """
    declared_at = calling_line()

    def decorate(judge: Judge) -> FunctionGuardrail:
        location = _location(judge, declared_at)
        called = name if name is not None else getattr(judge, "__name__", "")
        try:
            plain = require_function(judge, "@guardrail")
            _check_options(called, seconds)
            _check_signature(plain, calling_locals() if "<locals>" in plain.__qualname__ else {})
        except InvalidDeclaration as invalid:
            raise location.error(f"@guardrail {called}: {invalid.rule}", invalid.fix) from None
        return FunctionGuardrail(called, judge, float(seconds), location)

    return decorate if function is None else decorate(function)


def _location(judge: object, declared_at: Location) -> Location:
    code = getattr(inspect.unwrap(judge) if callable(judge) else judge, "__code__", None)
    return declared_at if code is None else Location(code.co_filename, code.co_firstlineno)


def _check_options(name: object, seconds: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        fix = "use letters, digits, `_`, `.` and `-`, at most 100"
        raise InvalidDeclaration(f"the name {name!r} is not allowed", fix)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _MOST_SECONDS:
        raise InvalidDeclaration(
            f"seconds is {seconds!r}, not a number above 0 and up to {_MOST_SECONDS:,.0f}", "write seconds=60"
        )


def _check_signature(function: FunctionType, local_names: Mapping[str, Any]) -> None:
    """Check the signature: one parameter, the workspace, and a return type for problems.

    Raises:
        InvalidDeclaration: the signature differs.
    """
    fix = f"write `def {function.__name__}{_SIGNATURE}`"
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        check_kind(parameter, fix)
        check_default(parameter)
    if [parameter.name for parameter in parameters] != ["workspace"]:
        names = ", ".join(parameter.name for parameter in parameters) or "nothing"
        raise InvalidDeclaration(f"the function takes {names}, not the workspace alone", fix)
    hints = resolve_annotations(function, local_names)
    for what, where in (("workspace", "parameter 'workspace'"), ("return", "the result")):
        if what not in hints:
            raise InvalidDeclaration(f"{where} has no annotation", fix)
    check_workspace(hints["workspace"])
    answer = hints["return"]
    is_union = isinstance(answer, types.UnionType) or typing.get_origin(answer) is typing.Union
    parts = typing.get_args(answer) if is_union else (answer,)
    wrong = [part for part in parts if part not in _ANSWERS]
    if wrong:
        raise InvalidDeclaration(f"the result is {inspect.formatannotation(answer)}, not a text, texts or None", fix)
    if parts == (type(None),):
        raise InvalidDeclaration("the result is always None, so the guardrail can never refuse anything", fix)


def _kind(answer: object) -> str:
    if not isinstance(answer, list):
        return f"an object of type {type(answer).__name__}"
    return f"a list with an item of type {next(type(item).__name__ for item in answer if not isinstance(item, str))}"


def _changes(before: Tree) -> str | None:
    """Describe the changes of the workspace, or return None."""
    try:
        now = scan_tree(before.root)
    except WorkspaceError:
        return "the directory was deleted"
    parts = (
        ("wrote", [path for path, file in now.files.items() if before.files.get(path, file) != file]),
        ("added", [path for path in now.files if path not in before.files]),
        ("removed", [path for path in before.files if path not in now.files]),
    )
    changes = [f"{verb} {listing([quoted(path) for path in paths], 3)}" for verb, paths in parts if paths]
    others = now.directories != before.directories or now.irregular != before.irregular
    return "; ".join(changes) or ("made or removed directories or links" if others else None)
