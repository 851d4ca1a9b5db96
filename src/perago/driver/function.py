"""Call the author's function in its scratch directories, and restore the process afterwards.

Only the workspace is published. A file that the function writes under a relative name would be lost in production and
would litter the author's project in a test. So it goes to a directory of the attempt, and is reported.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import threading
import traceback
from _signal import getsignal, pthread_sigmask, sigpending  # type: ignore[import-not-found] # enums cost ten times more
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.util import get_temp_dir
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel

from perago.authoring import Task, TaskFailed, TaskTerminalError
from perago.authoring.context import Current, hooks_of, running
from perago.authoring.task import withheld
from perago.text import listing, quoted
from perago.workspace.keys import compile_glob
from perago.workspace.scan import IrregularKind, WorkspaceError, scan_tree

_MOST = 1000
"""The maximum number of names of left files in a record."""

_PACKAGE = str(Path(__file__).parents[1])
"""The directory of perago's own code."""

_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
_one_at_a_time = threading.RLock()


@contextmanager
def scratch_directories(scratch: tuple[Path, Path] | None, former: str | None) -> Iterator[None]:
    """Use these two as the current and the temporary directory of this process. None: there is no attempt.

    Relative entries of `sys.path` still mean `former`, the previous current directory. The caller restores the current
    directory and the environment. A second attempt on another thread gets no scratch directories, because the current
    directory belongs to the process.

    """
    if scratch is None or not _one_at_a_time.acquire(blocking=False):
        yield
        return
    get_temp_dir()  # multiprocessing keeps what it gets here for the life of the process
    current, temporary = map(str, scratch)
    cached, tempfile.tempdir = tempfile.tempdir, temporary
    relative = _absolute_imports(former)
    try:
        os.environ.update(dict.fromkeys(_TEMPORARY, temporary))
        os.chdir(current)
        yield
    finally:
        sys.path[:] = [relative.get(entry, entry) for entry in sys.path]
        tempfile.tempdir = cached
        _one_at_a_time.release()


def _absolute_imports(former: str | None) -> dict[str, str]:
    """Make the entries of `sys.path` absolute, and return the old ones."""
    if former is None:
        return {}
    made = {entry: os.path.join(former, entry).rstrip("/") for entry in sys.path if not os.path.isabs(entry)}  # noqa: PTH117, PTH118
    before = set(sys.path)
    sys.path[:] = [made.get(entry, entry) for entry in sys.path]
    return {absolute: entry for entry, absolute in made.items() if absolute not in before}


def left_files(current: Path, task: Task) -> tuple[str, ...]:
    """Return the files that the function has left in `current` and that its task does not allow, sorted; at most 1,000.

    Empty directories, links and sockets contain nothing that could be lost. Temporary files do not count.
    """
    try:
        found = scan_tree(current)
    except (WorkspaceError, OSError):
        return ()
    odd = [entry.path for entry in found.irregular if entry.kind is IrregularKind.NOT_UTF8]
    allowed = [compile_glob(pattern) for pattern in task.scratch_files]
    left = (path for path in sorted([*found.files, *odd]) if not any(glob.fullmatch(path) for glob in allowed))
    return tuple(path for path, _ in zip(left, range(_MOST), strict=False))


def left_words(left: tuple[str, ...], task: Task) -> str | None:
    """Return a sentence that names the left files, or None if no files were left."""
    if not left:
        return None
    names = ("at least " if len(left) == _MOST else "") + listing([quoted(path) for path in left])
    published = "only the workspace is published" if task.workspace else "a task without a workspace publishes no files"
    return f"The function wrote {names} to its current directory; {published}."


def what_to_do(task: Task) -> str:
    """Return the advice that follows `left_words`."""
    place = "Write below `workspace`" if task.workspace else "Give the task a workspace"
    return f"{place}, or name what may be lost: @task(scratch_files=[...])."


def relative_hint(error: BaseException, former: str | None) -> str:
    """Return an addition to the reason if a file was not found because its name is relative; empty otherwise."""
    name = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or former is None or not isinstance(name, str | os.PathLike):
        return ""
    try:
        path = os.fspath(name)
        is_meant = isinstance(path, str) and not os.path.isabs(path) and os.path.exists(os.path.join(former, path))  # noqa: PTH110, PTH117, PTH118
    except ValueError:
        return ""
    if not is_meant:
        return ""
    return (
        f". {quoted(str(path))} is relative, and the function's current directory is a scratch directory of the "
        "attempt: write Path(__file__).parent / ... for a file of your project, or workspace / ..."
    )


def withheld_hint(error: BaseException, task: Task) -> str:
    """Return an addition to the reason if a variable is missing because perago withholds it; empty otherwise."""
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(name, str) or not withheld([name], task.environment):
        return ""
    return f". perago withholds {name} from functions that do not ask for it: write @task(environment=[{quoted(name)}])"


@dataclass(frozen=True, slots=True)
class Returned:
    """The function returned `value`."""

    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. `message` is the reason for Conductor; `traceback` starts in the author's code."""

    kind: Literal["failed", "terminal", "error"]
    message: str
    traceback: str = field(default="", repr=False)
    error_type: str = ""
    """The name of the class of the exception."""


FunctionCaller = Callable[[Task, Path | None, BaseModel, Current], Returned | Raised]


def call_function(
    task: Task,
    workspace: Path | None,
    params: BaseModel,
    current: Current,
    *,
    on_error: Callable[[BaseException], None] = lambda _: None,
    on_lasting: Callable[[str], None] = lambda _: None,
) -> Returned | Raised:
    """Call the task function, and return how it ended. Never raises an exception because of the function.

    `on_error` gets the exception of the function before anything is restored, for a debugger. `on_lasting` is called
    with words about a change that cannot be undone.

    The function runs in the scratch directories of its attempt. Working directory, environment, umask, timers, blocked
    signals, resource limits and, in the main thread, signal handlers are restored afterwards. `sys.exit` and
    KeyboardInterrupt inside the function are failures of the function. Withheld variables that the task does not ask
    for are not in its environment.
    """
    try:
        directory: str | None = os.getcwd()  # noqa: PTH109 - Path.cwd() is no gain here
    except OSError:
        directory = None
    try:
        with (
            _process_restored(directory, on_lasting),
            scratch_directories(hooks_of(current).scratch, directory),
            running(current),
        ):
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
        return Raised("failed", _words(error), _traceback(error), type(error).__name__)
    except TaskTerminalError as error:
        return Raised("terminal", _words(error), _traceback(error), type(error).__name__)
    except SystemExit as error:
        message = f"SystemExit: the function called sys.exit({error.code!r})"
        return Raised("error", message, _traceback(error), "SystemExit")
    except BaseException as error:  # noqa: BLE001 - an author's code may raise anything
        words, name = _words(error), type(error).__name__
        message = name if words == name else f"{name}: {words}"
        hint = relative_hint(error, directory) or withheld_hint(error, task)
        return Raised("error", message + hint, _traceback(error), name)


def _words(error: BaseException) -> str:
    """Return the text of the exception, or the name of its type if the text is empty."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return type(error).__name__


def _traceback(error: BaseException) -> str:
    """Return the traceback without perago's own frames in front and, if a signal interrupted the function, at the
    end."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
        shown = shown.tb_next
    try:
        text = traceback.TracebackException(type(error), error, shown)
        own = (place for place, frame in enumerate(text.stack) if frame.filename.startswith(_PACKAGE))
        if not isinstance(error, Exception):
            del text.stack[next(own, len(text.stack)) :]
        return "".join(text.format())
    except Exception:  # noqa: BLE001 - an exception that cannot be printed is still a failure
        return f"{type(error).__name__}: its traceback cannot be printed"


@contextmanager
def _process_restored(directory: str | None, on_lasting: Callable[[str], None]) -> Iterator[None]:
    environment = dict(os.environ)
    umask = os.umask(0o077)
    os.umask(umask)
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: getsignal(number) for number in _CATCHABLE} if is_main else {}
    recursion_limit = sys.getrecursionlimit()
    limits = [(kind, resource.getrlimit(kind)) for kind in _LIMITS]
    timers, blocked = [each for each in _TIMERS if not any(signal.getitimer(each))], pthread_sigmask(_BLOCK, ())
    try:
        yield
    finally:
        for timer in timers:  # before the handlers, because without one a timer ends the process
            signal.setitimer(timer, 0)
        if is_main and pthread_sigmask(_BLOCK, ()) != blocked:
            for number in sigpending() & {_TIMERS[timer] for timer in timers} - blocked:
                signal.signal(number, signal.SIG_IGN)  # drops what the timer has sent
        sys.setrecursionlimit(recursion_limit)
        for kind, limit in limits:
            if resource.getrlimit(kind) != limit:
                try:
                    resource.setrlimit(kind, limit)
                except (ValueError, OSError):  # only root may raise a hard limit
                    on_lasting("the function lowered a hard limit of its process with setrlimit")
        for number, handler in handlers.items():
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)
        os.umask(umask)
        if (now := dict(os.environ)) != environment:
            for name in now.keys() - environment.keys():
                del os.environ[name]
            os.environ.update({name: value for name, value in environment.items() if now.get(name) != value})
        if directory is not None:
            with suppress(OSError):
                os.chdir(directory)
        pthread_sigmask(signal.SIG_SETMASK, blocked)  # last, because a signal that waited can raise here


_BLOCK = int(signal.SIG_BLOCK)
_TIMERS = {
    signal.ITIMER_REAL: signal.SIGALRM,
    signal.ITIMER_VIRTUAL: signal.SIGVTALRM,
    signal.ITIMER_PROF: signal.SIGPROF,
}
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
"""The limits that could fail the next attempt. Each costs two calls of the system."""
_FIXED = {getattr(signal, name) for name in ("SIGKILL", "SIGSTOP") if hasattr(signal, name)}
_CATCHABLE = tuple(int(number) for number in set(signal.Signals) & signal.valid_signals() if number not in _FIXED)
