"""The child process of `scripts`: reads one script a line, answers one value a line. It ends with its input."""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from typing import Any

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


def _javascript(request: dict[str, Any]) -> Any:
    import quickjs  # the package quickjs-ng

    context = quickjs.Context()
    context.set_time_limit(request["seconds"])
    context.set_memory_limit(request["bytes"])
    context.set_max_stack_size(STACK_BYTES)
    as_json = context.eval(_VALUE_AS_JSON)
    context.set("$text", json.dumps(request["visible"]))
    context.eval("globalThis.$ = JSON.parse($text); delete globalThis.$text")
    return json.loads(as_json(context.eval(request["source"])))


def _jq(request: dict[str, Any]) -> Any:
    import jq

    return jq.compile(request["source"]).input_value(request["visible"]).all()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """`value`, or `error`."""
    try:
        return {"value": _javascript(request) if request["module"] == "quickjs" else _jq(request)}
    except Exception as error:  # noqa: BLE001 - whatever the script did is its error
        return {"error": str(error).strip() or type(error).__name__}


def main() -> None:
    """Serve until the input ends."""
    sys.path[:] = json.loads(sys.argv[1])
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
    print("ready", flush=True)  # noqa: T201 - the answer to the parent
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
