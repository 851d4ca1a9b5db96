"""Calling the author's function, and putting back what it changed in the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel

from perago.authoring import Task, TaskFailed, TaskTerminalError
from perago.authoring.context import Current, hooks_of, running, with_hooks
from perago.authoring.environment import withheld
from perago.authoring.metrics import Measurements
from perago.driver.observer import Observer
from perago.driver.scratch import relative_hint, standing_in
from perago.ports import Delivery
from perago.workspace.directory import AttemptDirectory


@dataclass(frozen=True, slots=True)
class Returned:
    """The function returned `value`, whatever that is."""

    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. `message` is the reason for Conductor; `traceback` starts in the author's code."""

    kind: Literal["failed", "terminal", "error"]
    message: str
    traceback: str = field(default="", repr=False)


FunctionCaller = Callable[[Task, Path | None, BaseModel, Current], Returned | Raised]


def current_of(
    delivery: Delivery,
    worker_id: str,
    observer: Observer,
    directory: AttemptDirectory,
    measurements: Measurements,
) -> Current:
    """What `current()` tells the function of `delivery`, whose attempt directory is given, and where it reports."""
    current = Current(
        workflow_id=delivery.workflow_id,
        task_id=delivery.task_id,
        task_name=delivery.task_name,
        reference_name=delivery.reference_name,
        iteration=delivery.iteration,
        retry_count=delivery.retry_count,
        worker_id=worker_id,
    )
    scratch = (directory.current, directory.temporary)
    return with_hooks(
        current,
        log=observer.log,
        progress=observer.progress,
        measure=measurements,
        scratch=scratch,
        environment={"TRACEPARENT": delivery.trace.traceparent} if delivery.trace else {},
    )


def call_function(
    task: Task,
    workspace: Path | None,
    params: BaseModel,
    current: Current,
    *,
    on_error: Callable[[BaseException], None] = lambda _: None,
) -> Returned | Raised:
    """Call the task function and say how it ended; never raises for anything that the function did.

    `on_error` is told what the function raised, before anything is put back: for a debugger.

    It runs in the scratch directories of its attempt. Working directory, environment, umask and, in the main thread,
    signal handlers are put back afterwards (docs/design/contract.md 7). `sys.exit` and KeyboardInterrupt inside the
    function are failures of the function. Withheld variables that the task does not ask for are not in the environment
    meanwhile.
    """
    directory = _working_directory()
    try:
        with _process_restored(directory), standing_in(hooks_of(current).scratch, directory), running(current):
            for name in withheld(tuple(os.environ), task.environment):
                del os.environ[name]
            os.environ.update(hooks_of(current).environment)
            given = {"params": params} if workspace is None else {"workspace": workspace, "params": params}
            try:
                return Returned(task.function(**given))
            except BaseException as error:
                on_error(error)
                raise
    except TaskFailed as error:
        return Raised("failed", _words(error), _traceback(error))
    except TaskTerminalError as error:
        return Raised("terminal", _words(error), _traceback(error))
    except SystemExit as error:
        return Raised("error", f"SystemExit: the function called sys.exit({error.code!r})", _traceback(error))
    except BaseException as error:  # noqa: BLE001 - an author's code may raise anything
        return Raised("error", _with_type(error) + relative_hint(error, directory), _traceback(error))


def _words(error: BaseException) -> str:
    """What the author wrote; the type's name where that is nothing."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return type(error).__name__


def _with_type(error: BaseException) -> str:
    words, name = _words(error), type(error).__name__
    return name if words == name else f"{name}: {words}"


def _traceback(error: BaseException) -> str:
    """The traceback without perago's own frames in front."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
        shown = shown.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, shown))
    except Exception:  # noqa: BLE001 - an exception that cannot be printed is still a failure
        return f"{type(error).__name__}: its traceback cannot be printed"


@contextmanager
def _process_restored(directory: str | None) -> Iterator[None]:
    environment = dict(os.environ)
    umask = os.umask(0o077)
    os.umask(umask)
    handlers = _signal_handlers()
    recursion_limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(recursion_limit)
        _restore_signals(handlers)
        os.umask(umask)
        _restore_environment(environment)
        if directory is not None:
            with suppress(OSError):
                os.chdir(directory)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd() is no gain here
    except OSError:
        return None


def _restore_environment(environment: dict[str, str]) -> None:
    now = dict(os.environ)
    for name in now.keys() - environment.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if now.get(name) != value})


def _signal_handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in _CATCHABLE}


def _restore_signals(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


_FIXED = {getattr(signal, name) for name in ("SIGKILL", "SIGSTOP") if hasattr(signal, name)}
_CATCHABLE = tuple(number for number in set(signal.Signals) & signal.valid_signals() if number not in _FIXED)
