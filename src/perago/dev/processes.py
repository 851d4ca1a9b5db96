"""The worker processes of `perago dev` and the source files that they run, both watched by the session.

One queue takes the events of all threads, so that lines are printed one after the other.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from perago.probe.process import ChildProcess

if TYPE_CHECKING:
    from perago.probe import Probed


READY = "ready: "
"""The beginning of the line that `perago start` prints once it polls."""
_LAST_LINES = 1.0
"""Seconds for the last lines after the process ended; what it left behind may hold its output open for ever."""


@dataclass(frozen=True, slots=True)
class ChildSaid:
    """A worker process printed a line."""

    module: str
    text: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A worker process is gone, with this exit status (negative: the signal that killed it)."""

    module: str
    status: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A changed module was looked at."""

    module: str
    probed: Probed


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal asks this process to stop."""

    number: signal.Signals


DevEvent: TypeAlias = ChildSaid | ChildEnded | Checked | Signalled
Post: TypeAlias = Callable[[DevEvent], None]
"""Takes an event from any thread, and from a signal handler."""


class WorkerChild:
    """`perago start MODULE -j N` in a process group of its own, so that Ctrl-C reaches it through us only.

    `on_line` and `on_end` are called from other threads; the latter once, last, with the exit status.
    """

    def __init__(
        self,
        module: str,
        slots: int,
        environment: Mapping[str, str],
        import_limit: float,
        on_line: Callable[[str], None],
        on_end: Callable[[int], None],
    ) -> None:
        """Start the process.

        Args:
            module: The import path of the task module.
            slots: How many attempts run at a time.
            environment: The whole environment of the process.
            import_limit: Seconds that importing the module may take.
            on_line: Takes each line of its output.
            on_end: Takes its exit status, negative for a signal.
        """
        self.started = time.monotonic()
        self.asked_to_stop = 0
        """The number of requests; the second cancels what runs, the third kills."""
        self._on_line = on_line
        self._on_end = on_end
        held, self._lifeline = os.pipe()
        options = ["start", module, "--jobs", str(slots), "--watch", "--timeout", str(import_limit)]
        command = [sys.executable, "-m", "perago.cli.parent_watchdog", str(held), *options]
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[held],
            )
        finally:
            os.close(held)
        threading.Thread(target=self._attend, name=f"perago-dev-{module}", daemon=True).start()

    def stop(self) -> None:
        """First drain, then cancel, then kill."""
        self.asked_to_stop += 1
        if self.asked_to_stop <= 2:
            self._process.send_signal(signal.SIGTERM)
        elif self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _attend(self) -> None:
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        status = self._process.wait()
        reader.join(_LAST_LINES)
        os.close(self._lifeline)
        self._on_end(status)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._on_line(line.decode("utf-8", "replace").rstrip("\n"))


class Check:
    """Imports a module in a process that is thrown away, and posts what came of it."""

    def __init__(self, module: str, seconds: float, post: Post) -> None:
        self._module = module
        self._post = post
        self._child = ChildProcess(module, seconds, beside_threads=True)
        threading.Thread(target=self._run, name=f"perago-dev-check-{module}", daemon=True).start()

    def cancel(self) -> None:
        """End it at once; the result no longer matters."""
        self._child.cancel()

    def _run(self) -> None:
        with self._child:
            probed = self._child.result()
        self._post(Checked(self._module, probed))


SECONDS = 0.5
"""Seconds between two checks of the files."""

Fingerprint = tuple[tuple[int, int, int] | None, ...]
"""Modification time, size and inode of each file, None for one that is missing."""

_FRAME = re.compile(r'File "([^"<][^"]*)", line \d+')


class SourceFiles:
    """The files of one module, and how they looked when they were last taken into account."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(sorted(set(files)))
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether they look different than when this was asked last; asking again says no."""
        now = self._look()
        changed = now != self._seen
        self._seen = now
        return changed

    def replace(self, files: Iterable[str]) -> None:
        """Watch these instead. What both sets have is not read again, so a change in between is not missed."""
        known = dict(zip(self._files, self._seen, strict=True))
        self._files = tuple(sorted(set(files)))
        self._seen = tuple(known[file] if file in known else _print_of(file) for file in self._files)

    def forget_bytecode(self) -> None:
        """Remove the compiled form of each file. Python tells by whole seconds and size whether it is up to date, so an
        edit of the same length within one second would not be run."""
        for file in self._files:
            if file.endswith(".py"):
                with contextlib.suppress(OSError, NotImplementedError):
                    os.unlink(cache_from_source(file))  # noqa: PTH108

    def add_suspects(self, traceback: str) -> None:
        """After a failed import: also the files of its traceback below the current directory, and the directories of
        all, since what is missing may be a file."""
        here = Path.cwd()
        named = {file for file in _FRAME.findall(traceback) if Path(file).is_relative_to(here)}
        files = {*self._files, *named}
        self.replace({*files, str(here), *(str(Path(file).parent) for file in files)})

    def _look(self) -> Fingerprint:
        return tuple(map(_print_of, self._files))


def _print_of(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - called all the time
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
