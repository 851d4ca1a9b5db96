"""Where in the author's code a declaration stands."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from perago.authoring.errors import TaskDefinitionError, readable_path

P = ParamSpec("P")
R = TypeVar("R")

_MACHINERY = ("perago.authoring.", "perago.guardrails.", "pydantic.")


@dataclass(frozen=True, slots=True)
class Location:
    """A line (from 1) of a source file."""

    file: str
    line: int

    @property
    def readable(self) -> str:
        """`tasks/features.py:12`, as a person in the current directory would write it."""
        return f"{readable_path(self.file)}:{self.line}"

    def error(self, message: str, fix: str | None = None) -> TaskDefinitionError:
        """A `TaskDefinitionError` that points here."""
        return TaskDefinitionError(message, file=self.file, line=self.line, fix=fix)


def calling_line() -> Location:
    """The line outside of perago that is being executed: where the author wrote the declaration."""
    frame = _calling_frame()
    return Location(frame.f_code.co_filename, frame.f_lineno)


def calling_locals() -> Mapping[str, Any]:
    """The local names at `calling_line`, so that annotations can name models which a function defines."""
    return dict(_calling_frame().f_locals)


def _calling_frame() -> FrameType:
    frame = sys._getframe(1)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(_MACHINERY):
        frame = frame.f_back
    return frame


def declares(written: str, *, named_only: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make wrong arguments of an authoring function a `TaskDefinitionError` at the author's line.

    `written` is how the author spells the call, for the message. `named_only` is for decorators, whose first
    positional argument is the decorated function when the author forgets the brackets.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        takes = f"it takes {', '.join(signature.parameters)}"

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if named_only and args:
                misuse = "is used without arguments" if callable(args[0]) else "takes named arguments only"
                raise calling_line().error(f"{written} {misuse}", f"{written}(...): {takes}")
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                words = str(error).replace(" keyword-only", "")  # the words of Python 3.11, in every version
                raise calling_line().error(f"{written}: {words}", takes) from None
            return function(*args, **kwargs)

        return call

    return decorate
