"""A project's own hooks that replace what must not leave production. They run before anything is written.

A module of the project has one or more of these functions; each gets the name of the task first:

    def scrub_params(task: str, params: dict) -> dict: ...
    def scrub_result(task: str, result: object) -> object: ...
    def scrub_file(task: str, path: str, content: bytes) -> bytes | None: ...   # None leaves the file out
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from perago.replay.attempts import NotReplayable
from perago.taskdef.compare import same_json
from perago.workspace.text import quoted

HOOKS = ("scrub_params", "scrub_result", "scrub_file")


@dataclass(slots=True)
class Scrubber:
    """Calls the hooks for one task. Without hooks everything stays as it is."""

    task: str
    hooks: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    """What a hook has replaced, in words."""

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The params as they are to be kept.

        Raises:
            NotReplayable: the hook raised, or returned no JSON object.
        """
        found = self._json("scrub_params", dict(params), "params")
        if not isinstance(found, dict):
            raise _broken("scrub_params", f"returned {type(found).__name__}; it must return the params, a dict")
        return found

    def result(self, result: Any) -> Any:
        """The result as it is to be kept.

        Raises:
            NotReplayable: the hook raised, or returned no JSON.
        """
        return self._json("scrub_result", result, "the result")

    def file(self, path: str, file: Path) -> bool:
        """Replace the content of a file that was fetched; False if it is to be left out.

        Raises:
            NotReplayable: the hook raised, or returned neither bytes nor None.
        """
        if "scrub_file" not in self.hooks:
            return True
        before = file.read_bytes()
        after = self._call("scrub_file", path, before)
        if after is None:
            self.replaced.append(f"{path} was left out")
            file.unlink()
            return False
        if not isinstance(after, bytes):
            raise _broken("scrub_file", f"returned {type(after).__name__} for {quoted(path)}; it must return bytes")
        if after != before:
            self.replaced.append(path)
            file.write_bytes(after)
        return True

    def _json(self, hook: str, value: Any, what: str) -> Any:
        if hook not in self.hooks:
            return value
        given = json.dumps(value)
        try:
            found = json.loads(json.dumps(self._call(hook, json.loads(given)), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise _broken(hook, f"returned what is not JSON ({type(error).__name__})") from error
        if not same_json(found, json.loads(given)):
            self.replaced.append(what)
        return found

    def _call(self, hook: str, *arguments: Any) -> Any:
        try:
            return self.hooks[hook](self.task, *arguments)
        except Exception as error:
            raise _broken(hook, f"raised {type(error).__name__}") from error  # the message may have what must not leave


def hooks_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The hooks that a module has.

    Raises:
        NotReplayable: it has none.
    """
    found = {name: getattr(module, name) for name in HOOKS if callable(getattr(module, name, None))}
    if not found:
        raise NotReplayable(
            f"module {module.__name__} has no scrub hook; nothing was fetched",
            f"give it one of the functions {', '.join(HOOKS)}",
        )
    return found


def load_hooks(name: str) -> dict[str, Callable[..., Any]]:
    """Import the module of the hooks.

    Raises:
        NotReplayable: it cannot be imported, or has no hook.
    """
    try:
        return hooks_of(importlib.import_module(name))
    except NotReplayable:
        raise
    except Exception as error:
        raise NotReplayable(
            f"the module of the scrub hooks cannot be imported: {name}: {type(error).__name__}: {error}",
            "give its import path; the current directory is importable",
        ) from error


def _broken(hook: str, what: str) -> NotReplayable:
    return NotReplayable(f"{hook} {what}; nothing was written", "mend the hook: docs/cli.md, perago capture")
