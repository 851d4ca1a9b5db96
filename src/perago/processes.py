"""Processes and their signals: adopt orphans, end the processes that a function left, and end a command by a signal.

On Linux, a process can adopt its orphaned descendants, even daemons that forked twice and left session and process
group, and find them in /proc. Other systems have no /proc, so no processes are found there.

A signal unwinds the command, so that nothing that it started stays behind. The handler raises an exception wherever the
program is. Python drops the exception in a destructor and in the callback of a weak reference. During the creation of a
class, Python wraps it in another error (until 3.12). Therefore each signal is also recorded. The record is read at the
end of the handler's block, and by code that waits for a long time inside the block (`raise_pending_signal`).

`perago start` ends with status 0 (`ends_well`), because before its supervisor runs there is nothing to finish. From
then on the supervisor gets the signals instead (`hand_over`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals that end a process until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Release these signals, in a process that was started while they were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_KILL_LIMIT = 2.0
"""Seconds to wait for killed processes to disappear."""
_EMPTY_SEARCHES = 3
"""The number of empty searches in a row that prove that nothing is left."""
_SEARCH_INTERVAL = 0.005
"""Seconds between two searches."""
_LONGEST_COMMAND = 200


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has not ended. `name` is short and has no arguments, so it may be logged."""

    pid: int
    name: str
    parent: int
    group: int
    session: int
    stopped: bool = False
    """Whether a signal stopped it (state T), so that it runs only after CONT."""

    def command_line(self) -> str:
        """Return the command line with its arguments, which can be secret. Return the name only if the arguments can no
        longer be read."""
        try:
            arguments = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            arguments = []
        text = _printable(" ".join(arguments).strip())
        return (text if len(text) <= _LONGEST_COMMAND else f"{text[:_LONGEST_COMMAND]}...") or self.name


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, if the system supports that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Adopt orphans during the block."""
    import ctypes

    before = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(before))
    adopt_orphans()
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, before.value)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes  # few processes need it

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def running_processes() -> dict[int, Process]:
    """Return every process of this system that is not a zombie, by its id. Empty without /proc."""
    processes = {}
    with contextlib.suppress(FileNotFoundError), os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (process := _read(entry.name)) is not None:
                processes[process.pid] = process
    return processes


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie. False on systems without /proc.

    Raises:
        OSError: it is unknown, because no descriptor is free.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in b"ZX"


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process (state T). False on systems without /proc."""
    process = _read(str(pid))
    return process is not None and process.stopped


def _read(pid: str) -> Process | None:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            # "pid (name) state parent group session ...", where the name may contain anything
            before, _, after = os.read(descriptor, 4096).rpartition(b")")
        finally:
            os.close(descriptor)
    except OSError:
        return None
    state, parent, group, session = after.split()[:4]
    name = _printable(before.partition(b"(")[2].decode(errors="replace"))
    if state in b"ZX":
        return None
    return Process(int(pid), name, int(parent), int(group), int(session), stopped=state == b"T")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def descendants(pid: int, among: Mapping[int, Process], *, but: Collection[int] = ()) -> list[Process]:
    """Return all descendants, without those in `but` and their descendants."""
    below: list[Process] = []
    parents = {pid}
    while parents:
        generation = [process for process in among.values() if process.parent in parents and process.pid not in but]
        below += generation
        parents = {process.pid for process in generation}
    return below


def end_processes(find: Callable[[], Iterable[Process]]) -> list[Process]:
    """Kill the processes that `find` returns, until it returns none several times in a row. Return the remaining ones.

    Process groups are killed with one signal, because a process that forks all the time would escape, and a single
    search can miss it.
    """
    deadline = time.monotonic() + _KILL_LIMIT
    in_vain = 0
    while in_vain < _EMPTY_SEARCHES:
        left = list(find())
        in_vain = 0 if left else in_vain + 1
        for group in {process.group for process in left} - {os.getpgrp(), 0}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            break
        time.sleep(_SEARCH_INTERVAL)
    return left


INTERRUPTED = "interrupted"
"""The reason for the end of an attempt that Ctrl-C canceled. The command reports the interruption itself."""
_SIGNAL_GRACE = 1.0
"""Seconds during which a further signal is ignored, so that it does not interrupt the clean-up."""

_pending_signals: set[int] = set()
"""The received signals whose block has not ended yet."""
_unwound_at = -_SIGNAL_GRACE
_ends_well = False
_receiver: Callable[[signal.Signals], None] | None = None


@contextlib.contextmanager
def sigint_noted() -> Iterator[None]:
    """Record Ctrl-C inside the block. It raises KeyboardInterrupt as usual. An ignored interrupt stays ignored."""
    usual = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _note)
    with _handled(signal.SIGINT) if usual and _is_main_thread() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the block, so that neither a process nor a directory stays behind."""
    with _handled(signal.SIGTERM):
        yield


@contextlib.contextmanager
def ends_well(stopped: Callable[[], None]) -> Iterator[None]:
    """If a signal ends the command, exit with status 0, and call `stopped` before.

    This is the outermost block of a process: later signals are ignored.
    """
    global _ends_well
    _ends_well = True
    _listen()
    try:
        with _dropped_in_silence():
            yield
    except BaseException:  # it may come of the signal
        if not _pending_signals:
            raise
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
    if _pending_signals:
        stopped()
        raise SystemExit(0)


def hand_over(receive: Callable[[signal.Signals], None]) -> None:
    """From now on, call `receive` for each signal instead of unwinding, also for a signal whose exception was dropped
    before."""
    global _receiver
    _receiver = receive
    _listen()
    while _pending_signals:
        receive(signal.Signals(_pending_signals.pop()))


@contextlib.contextmanager
def heard(receive: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `receive` for each signal that ends a process, for a server that runs inside the block."""

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape that `signal` wants
        receive(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in _ending()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_pending_signal() -> None:
    """Raise the exception of a signal again if the interrupted code has dropped it. This only affects the main thread,
    which handles signals.

    Raises:
        KeyboardInterrupt: SIGINT has arrived.
        SystemExit: another signal has arrived; in a command that ends well, any signal.
    """
    global _unwound_at
    if not _pending_signals or not _is_main_thread():
        return
    _unwound_at = time.monotonic()
    if _ends_well:
        raise SystemExit(0)
    if signal.SIGINT in _pending_signals:
        raise KeyboardInterrupt
    raise SystemExit(128 + signal.SIGTERM)


def _note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape that `signal` wants
    if _receiver is not None:
        _receiver(signal.Signals(number))
        return
    _pending_signals.add(number)
    if time.monotonic() - _unwound_at >= _SIGNAL_GRACE:
        raise_pending_signal()


def _listen() -> None:
    """Handle all signals that end a process."""
    for number in _ending():
        signal.signal(number, _note)


def _ending() -> list[signal.Signals]:
    """Return all signals that end a process, but not a hang-up that is ignored (nohup)."""
    return [number for number in ENDING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def _handled(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, _note)
    try:
        with _dropped_in_silence():
            yield
        raise_pending_signal()
    except Exception:
        raise_pending_signal()  # an error that a signal caused is not an error of the command
        raise
    finally:
        signal.signal(number, before)
        if before is not _note:
            _pending_signals.discard(number)


@contextlib.contextmanager
def _dropped_in_silence() -> Iterator[None]:
    """Print no traceback where Python drops the exception of a signal, such as in a destructor: it is raised again."""
    show = sys.unraisablehook

    def show_others(dropped: sys.UnraisableHookArgs) -> None:
        if not _pending_signals or not isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit):
            show(dropped)

    sys.unraisablehook = show_others
    try:
        yield
    finally:
        sys.unraisablehook = show


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
