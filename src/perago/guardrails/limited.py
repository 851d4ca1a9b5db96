"""Calling an author's guardrail with a limit to its time.

It runs in a thread of its own, so that the attempt continues when the time is over, also if the guardrail is busy in C.
A thread cannot be killed; one that is late is asked to end, and a worker process in which it stays is replaced.
"""

from __future__ import annotations

import contextvars
import ctypes
import dis
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perago.authoring.errors import readable_path

_MAY_WAIT = sys.version_info >= (3, 12)
"""Whether an exception may wait for a thread that is in C. In Python 3.11 no other thread that is traced, by coverage
or a debugger, enters a function meanwhile: it takes the same step again and again."""
_LOOKS = 20
_BETWEEN = 0.01


class Ended(Exception):
    """What a call raised, an exit of any kind included: nothing of it may pass for an exception of perago's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}".rstrip(": "))
        self.error = error


def call_within(seconds: float, call: Callable[[], object], name: str) -> object:
    """What the call returns.

    Args:
        seconds: how long it may take.
        call: what is called, with the context variables of the caller.
        name: of the thread.

    Raises:
        TimeoutError: the time is over.
        Ended: the call raised something.
    """
    answer: list[object] = []
    raised: list[BaseException] = []
    done = threading.Event()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            answer.append(context.run(call))
        except BaseException as error:  # noqa: BLE001 - a thread has no one to raise it to
            raised.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    in_time = False
    try:
        in_time = done.wait(seconds)
    finally:  # a cancelled attempt comes this way, too
        if not in_time:
            _ask_to_end(thread)
    if not in_time:
        raise TimeoutError
    thread.join()
    if raised:
        raise Ended(raised[0]) from raised[0]
    return answer[0]


def place_of(error: BaseException, function: Callable[..., Any]) -> str | None:
    """The line of the function's own file, as `file:line`, that the exception came through last."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f"{readable_path(file)}:{lines[-1]}" if file and lines else None


def traceback_of(error: BaseException) -> str:
    """The traceback without the frames of this module in front."""
    shown = error.__traceback__
    while shown is not None and Path(shown.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        shown = shown.tb_next
    return "".join(traceback.format_exception(type(error), error, shown))


def _ask_to_end(thread: threading.Thread) -> None:
    """Raise SystemExit in the thread, at its next step in Python."""
    if thread.ident is not None and (_MAY_WAIT or _is_in_python(thread.ident)):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def _is_in_python(ident: int) -> bool:
    """Whether the thread is seen to take steps in Python, and so does not wait in C."""
    seen = set()
    for _ in range(_LOOKS):
        frame = sys._current_frames().get(ident)
        if frame is None:
            return False
        seen.add((frame.f_code, frame.f_lasti))
        if len(seen) > 1 or dis.opname[frame.f_code.co_code[frame.f_lasti]] == "JUMP_BACKWARD":
            return True
        time.sleep(_BETWEEN)
    return False
