"""Scripts of workflows, JavaScript and jq, run in a process of their own that is killed when they take too long.

QuickJS (the package `quickjs-ng`) and not V8 (`mini-racer`): its wheels are a tenth as large and cover CPython 3.10 and
later on Linux and macOS, and a script that is out of memory is an error there, where V8 aborts the whole process. A
loop inside of a built-in function (`new Array(1e9).sort()`) stops neither engine in time, so scripts run in a child
that can be killed. `dukpy` has no limits, `quickjs` is no longer maintained. jq runs there, too: it has no limits.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

SECONDS = 4.0
"""Seconds that a script may take, as on the server."""

MEMORY_BYTES = 64 * 1024 * 1024

_GRACE_SECONDS = 1.0
"""After `SECONDS` the engine stops by itself if it can; after these it is killed."""

_START_SECONDS = 20.0

TOO_SLOW = f"Script not evaluated within {SECONDS:g} seconds, interrupted."


class ScriptError(Exception):
    """The script failed; the text says how."""


def require(module: str) -> None:
    """Raise `NotImplementedError` where the engine, the module `quickjs` or `jq`, is not installed."""
    if importlib.util.find_spec(module) is None:
        package = {"quickjs": "quickjs-ng"}.get(module, module)
        raise NotImplementedError(
            f"InMemoryConductor: this script needs the package {package}, which perago's extra `embedded` brings along"
        )


def javascript(source: str, visible: Mapping[str, Any]) -> Any:
    """The value of the last expression as JSON, with `visible` as `$`; what has no JSON form is null or empty.

    Raises:
        ScriptError: it failed, or took too long or too much memory.
        NotImplementedError: the engine is not installed.
    """
    return _evaluate("quickjs", source, visible)


def jq(program: str, visible: Mapping[str, Any]) -> list[Any]:
    """All results of a jq program on `visible`.

    Raises:
        ScriptError: it failed, or took too long or too much memory.
        NotImplementedError: jq is not installed.
    """
    return list(_evaluate("jq", program, visible))


def _evaluate(module: str, source: str, visible: Mapping[str, Any]) -> Any:
    require(module)
    limits = {"seconds": SECONDS, "bytes": MEMORY_BYTES}
    answer = _ENGINE.ask({"module": module, "source": source, "visible": visible, **limits})
    if "error" in answer:
        raise ScriptError(_jq_error(answer["error"]) if module == "jq" else _javascript_error(answer["error"]))
    return answer["value"]


def _javascript_error(text: str) -> str:
    """Word an error of QuickJS as the server's engine does, but for errors of syntax."""
    if "interrupted" in text:
        return TOO_SLOW
    message, _, where = text.partition("\n")
    if message == "[object Object]":
        message = "Error"
    message = message.replace("Error: cannot ", "Error: Cannot ", 1)
    line = re.search(r"<input>:(\d+)", where)
    at_line = "" if message.startswith("Error: ") else f" at line {line[1] if line else 1}"
    return f"Error evaluating the script `{message}`{at_line}"


def _jq_error(text: str) -> str:
    """Word an error of jq as the server's implementation does, but for errors of syntax."""
    return re.sub(r"( with number) \(.*\)$", r"\1", text.partition("\n")[0])


class _Engine:
    """The child process: started at its first script, shared by all threads, one script at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            child = self._running()
            try:
                _input(child).write(json.dumps(request).encode() + b"\n")
                _input(child).flush()
                line = _line(child, SECONDS + _GRACE_SECONDS)
                if line is not None:
                    answer: dict[str, Any] = json.loads(line)
                    return answer
            except OSError:
                pass
            self.stop()
        raise ScriptError(TOO_SLOW)

    def _running(self) -> subprocess.Popen[bytes]:
        """The child; a process that was forked off starts its own."""
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self._owner = os.getpid()
            self._child = subprocess.Popen(
                [sys.executable, "-I", str(_SCRIPT), json.dumps(sys.path), str(MEMORY_BYTES * 8)],
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            if _line(self._child, _START_SECONDS) is None:
                self.stop()
                raise ScriptError("the process for scripts did not start")
        return self._child

    def stop(self) -> None:
        """Kill the child."""
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._child.communicate()
        self._child = None


def _line(child: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The next line of the child's output; None if it ends or takes longer."""
    output = cast("IO[bytes]", child.stdout)
    ready, _, _ = select.select([output], [], [], seconds)
    return output.readline() or None if ready else None


def _input(child: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", child.stdin)


_SCRIPT = Path(__file__).with_name("script_process.py")
_ENGINE = _Engine()
atexit.register(_ENGINE.stop)
