"""Scripts of workflows, JavaScript and jq, run in a separate process that is killed if they take too long.

QuickJS (the package `quickjs-ng`) and not V8 (`mini-racer`): its wheels are a tenth as large and cover CPython 3.10 and
later on Linux and macOS, and a script without memory causes an error there, but V8 aborts the complete process. A loop
inside of a built-in function (`new Array(1e9).sort()`) stops neither engine in time, so scripts run in a child that can
be killed. `dukpy` has no limits, `quickjs` is no longer maintained. jq runs there, too: it has no limits.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import resource
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, cast

SECONDS = 4.0
"""Seconds that a script may take, as on the server."""

MEMORY_BYTES = 64 * 1024 * 1024

_GRACE_SECONDS = 1.0
"""Seconds after which the engine is killed. After `SECONDS` it stops itself if it can."""

_START_SECONDS = 20.0

TOO_SLOW = f"Script not evaluated within {SECONDS:g} seconds, interrupted."


_UNKNOWN_TO_THE_SERVER = dict(
    re.findall(
        r"(\w+)/(\d)",
        """
    IN/1 INDEX/1 JOIN/2 abs/0 acos/0 acosh/0 asin/0 asinh/0 atan2/2 atanh/0 bsearch/1 builtins/0 cbrt/0
    ceil/0 copysign/2 cosh/0 debug/0 delpaths/1 drem/2 env/0 erf/0 error/0 erfc/0 exp/0 exp10/0 exp2/0 expm1/0
    fabs/0 fdim/2 finites/0 fma/3 fmax/2 fmin/2 fmod/2 format/1 frexp/0 fromdate/0 fromdateiso8601/0
    fromstream/1 gamma/0 get_jq_origin/0 get_prog_origin/0 get_search_list/0 getpath/1 gmtime/0 halt/0
    halt_error/0 have_decnum/0 have_literal_numbers/0 hypot/2 input/0 input_filename/0
    input_line_number/0 inputs/0 isempty/1 isfinite/0 isnormal/0 j0/0 j1/0 jn/2 ldexp/2 lgamma/0
    lgamma_r/0 localtime/0 log/0 log10/0 log1p/0 logb/0 ltrim/0 mktime/0 modf/0 modulemeta/0 nearbyint/0
    nextafter/2 nexttoward/2 normals/0 now/0 path/1 pick/1 remainder/2 repeat/1 rint/0 round/0 rtrim/0
    scalb/2 scalbln/2 setpath/2 significand/0 sinh/0 skip/2 stderr/0 strflocaltime/1 strftime/1
    strptime/1 tan/0 tanh/0 tgamma/0 toboolean/0 todate/0 todateiso8601/0 tostream/0 trim/0 trimstr/1
    trunc/0 truncate_stream/1 y0/0 y1/0 yn/2

    """,
    )
)
"""Functions of jq that jackson-jq 0.0.13, which the server uses, does not have, with their number of arguments."""
_JQ_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|#[^\n]*|(?P<prefix>[.$@])?\b(?P<name>[A-Za-z_]\w*)\b(?P<key>\s*:)?(?P<call>\s*\()?'
)


class ScriptError(Exception):
    """The script failed; the text says how."""


def require(module: str) -> None:
    """Raise `NotImplementedError` where the engine, the module `quickjs` or `jq`, is not installed."""
    if importlib.util.find_spec(module) is None:
        package = {"quickjs": "quickjs-ng"}.get(module, module)
        needed = f"the package {package}, which perago's extra `embedded` brings along"
        raise NotImplementedError(f"InMemoryConductor: this script needs {needed}")


def javascript(source: str, visible: Mapping[str, Any]) -> Any:
    """Return the value of the last expression as JSON, with `visible` as `$`; what has no JSON form is null or empty.

    Raises:
        ScriptError: it failed, or took too long or too much memory.
        NotImplementedError: the engine is not installed.
    """
    return _evaluate("quickjs", source, visible)


def jq(program: str, visible: Mapping[str, Any]) -> list[Any]:
    """Return all results of a jq program on `visible`.

    Raises:
        ScriptError: it failed, or took too long or too much memory.
        NotImplementedError: jq is not installed.
    """
    defined = set(re.findall(r"\bdef\s+(\w+)", program))
    for token in _JQ_TOKEN.finditer(program):
        name, arity = token["name"], _UNKNOWN_TO_THE_SERVER.get(token["name"])
        is_call = arity is not None and not (token["prefix"] or token["key"] or (arity == "0" and token["call"]))
        if is_call and name not in defined:
            raise ScriptError(f"Function {name}/{arity} does not exist")
        if token[0] == "@base64d":
            raise ScriptError(f"Formatting operator {token[0]} does not exist")
    return list(_evaluate("jq", program, visible))


def _evaluate(module: str, source: str, visible: Mapping[str, Any]) -> Any:
    require(module)
    limits = {"seconds": SECONDS, "bytes": MEMORY_BYTES}
    answer = _ENGINE.ask({"module": module, "source": source, "visible": visible, **limits})
    if "error" in answer:
        raise ScriptError(_reworded(module, answer["error"]))
    return answer["value"]


_JQ_WORDINGS = [
    (re.compile(pattern, re.DOTALL), wording)
    for pattern, wording in (
        (r"^(Cannot index \w+ with (?!string)\w+) \(.*\)$", "{0}"),
        (r'^(Cannot index \w+ with string) \((".*")\)$', "{0} {1}"),
        (r"^(Cannot iterate over \w+) \(.*\)$", "{0}"),
        (r"^jq: error: (\w+/\d+) is not defined at .*", "Function {0} does not exist"),
        (r"^jq: error: (\$\w+) is not defined at .*", "Undefined variable: {0}"),
        (r"^jq: error: (Cannot use .* as object key) at .*", "{0}"),
        (r"^(jq: error: [^\n]*).*", "{0}"),
        (r'^string \((".*")\) cannot be parsed as a number$', "For input string: {0}"),
        (r"^(\w+) \(.*\) (cannot be parsed as a number|has no length)$", "{0} {1}"),
        (r"^(\w+) \(.*\) has no keys$", "keys is not applicable to {type}; expected one of [OBJECT, ARRAY]"),
        (r"^(\w+) \(.*\) cannot be sorted,.*", "sort is not applicable to {type}; expected one of [ARRAY]"),
        (r"^(\w+) \(.*\) cannot be matched,.*", "_match_impl/3 is not applicable to {type}; expected one of [STRING]"),
        (
            r"^(\w+) \(.*\) only strings can be parsed$",
            "fromjson is not applicable to {type}; expected one of [STRING]",
        ),
        (r"^(\w+) \(.*\) number required$", "mathfunc is not applicable to {type}; expected one of [NUMBER]"),
        (r"^(\w+) \(.*\) can not be escaped for shell$", "{type} cannot be escaped for shell"),
        (r"^(\w+) is not a valid format$", "Formatting operator @{0} does not exist"),
        (r"^Cannot check whether array has .*", "argument 1 of has() must be int for array input"),
        (r"^Cannot check whether object has .*", "argument 1 of has() must be string for object input"),
        (r"^Range bounds must be numeric$", "arguments of range() must be NUMBER"),
        (r"^Regex failure: (.*)", "{0}"),
        (r"(?<=\w \()(?=(?:(?!\) (?:and|cannot) ).){15})(.{11}).*?(?=\) (?:and|cannot) )", "{0}..."),
    )
]
"""Errors of jq, and their words on the server."""


def _reworded(module: str, text: str) -> str:
    """Word an error as the server's engine does, but for errors of syntax."""
    if module == "jq":
        for pattern, wording in _JQ_WORDINGS:
            kind = text.partition(" ")[0].upper()
            text = pattern.sub(lambda match: wording.format(*match.groups(), type=kind), text)  # noqa: B023 - used here
        return text
    if "interrupted" in text:
        return TOO_SLOW
    message, _, where = text.partition("\n")
    if message == "[object Object]":
        message = "Error"
    message = message.replace("Error: cannot ", "Error: Cannot ", 1)
    line = re.search(r"<input>:(\d+)", where)
    at_line = "" if message.startswith("Error: ") else f" at line {line[1] if line else 1}"
    return f"Error evaluating the script `{message}`{at_line}"


class _Engine:
    """The child process: started at its first script, shared by all threads, one script at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            child = self._running()
            with suppress(OSError):
                child_input = cast("IO[bytes]", child.stdin)
                child_input.write(json.dumps(request).encode() + b"\n")
                child_input.flush()
                line = _line(child, SECONDS + _GRACE_SECONDS)
                if line is not None:
                    answer: dict[str, Any] = json.loads(line)
                    return answer
            self.stop()
        raise ScriptError(TOO_SLOW)

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the child; a process that was forked off starts its own."""
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self._owner = os.getpid()
            self._child = subprocess.Popen(
                [sys.executable, "-I", __file__, json.dumps(sys.path), str(MEMORY_BYTES * 8)],
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
    """Return the next line of the child's output; None if it ends or takes longer."""
    output = cast("IO[bytes]", child.stdout)
    ready, _, _ = select.select([output], [], [], seconds)
    return output.readline() or None if ready else None


_ENGINE = _Engine()
atexit.register(_ENGINE.stop)


# --------------------------------------------------------------------- the child process
# It runs this file without perago, so everything that is imported above is part of Python.

STACK_BYTES = 512 * 1024

_VALUE_AS_JSON = """
(value) => {
  const plain = (item) => {
    if (item === undefined || item === null) return null;
    if (typeof item === "bigint") return Number(item);
    if (typeof item === "number") return Number.isFinite(item) ? item : String(item);
    if (typeof item !== "object") return typeof item === "boolean" || typeof item === "string" ? item : {};
    if (item instanceof Boolean || item instanceof Number || item instanceof String) return item.valueOf();
    if (Array.isArray(item)) return item.map(plain);
    if (item instanceof Date) return {};
    const entries = item instanceof Map ? [...item] : Object.entries(item);
    return Object.fromEntries(entries.map(([name, inner]) => [name, plain(inner)]));
  };
  return JSON.stringify(plain(value));
}
"""


def _run(request: dict[str, Any]) -> Any:
    if request["module"] == "jq":
        import jq

        return jq.compile(request["source"]).input_value(request["visible"]).all()
    import quickjs  # the package quickjs-ng

    context = quickjs.Context()
    context.set_time_limit(request["seconds"])
    context.set_memory_limit(request["bytes"])
    context.set_max_stack_size(STACK_BYTES)
    as_json = context.eval(_VALUE_AS_JSON)
    context.set("$text", json.dumps(request["visible"]))
    context.eval("globalThis.$ = JSON.parse($text); delete globalThis.$text")
    return json.loads(as_json(context.eval(request["source"])))


def main() -> None:
    """Read one script a line and answer one value, or one error, a line, until the input ends."""
    sys.path[:] = json.loads(sys.argv[1])
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
    print("ready", flush=True)  # noqa: T201 - the answer to the parent
    for line in sys.stdin:
        try:
            answer = {"value": _run(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever the script did is its error
            answer = {"error": str(error).strip() or type(error).__name__}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
