"""Arguments and options that several commands share."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from perago.cli import messages
from perago.text import show_utc, strict_json

_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)  # the names that lakeFS allows
_COMMIT = re.compile(r"[0-9a-f]{64}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{6,63}")
RELATIVE_COMMIT = re.compile(r"\w[-\w]*([~^]\d*)+", re.ASCII)
"""A commit by its distance from a branch, a tag or a commit, in lakeFS' own syntax."""
_KINDS: dict[type, str] = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def option(usage: str, text: str, **more: Any) -> Any:
    """Return an option by its usage, such as `--jobs -j N`: its names, and the word for its value."""
    names = usage.split()
    value = names.pop() if names and not names[-1].startswith("-") else None
    return typer.Option(*names, metavar=value, help=text, **more)


def argument(word: str | None, text: str, **more: Any) -> Any:
    """Return an argument that a usage line shows as `word`."""
    return typer.Argument(metavar=word, help=text, **more)


def checked_module(name: str) -> str:
    """Return `name` if it is an import path; otherwise raise a usage error with the right spelling."""
    if all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")):
        return name
    from perago.authoring import TaskDefinitionError
    from perago.taskdef.loading import check_spelling

    try:
        check_spelling(name)
    except TaskDefinitionError as error:
        raise typer.BadParameter(f"{error.message}; {error.fix}.") from None
    return name


def _modules(names: list[str] | None) -> list[str]:
    return list(dict.fromkeys(map(checked_module, names or ())))


def complete(incomplete: str) -> list[str]:
    """Return the modules and packages below the current directory that begin so. Nothing is imported."""
    from perago.taskdef.loading import children_of

    parent, dot, _ = incomplete.rpartition(".")
    children = children_of([Path(*parent.split("."))])
    return [name for child in children if (name := f"{parent}{dot}{child}").startswith(incomplete)]


FRIENDLY_PORT = 7777
"""The port of a page on this machine, unless another program uses it."""

Port = Annotated[
    int | None,
    option(
        "--port PORT",
        f"Port on 127.0.0.1; 0 means any free port. Default: {FRIENDLY_PORT}, or a free port if it is taken.",
        min=0,
        max=65535,
    ),
]

Module = Annotated[
    str, argument("MODULE", "Import path of a task module.", callback=checked_module, autocompletion=complete)
]
_MODULES = argument("MODULE", "Import paths of task modules and packages.", callback=_modules, autocompletion=complete)
Modules = Annotated[list[str], _MODULES]
OptionalModules = Annotated[list[str] | None, _MODULES]
Timeout = Annotated[float, option("--timeout SECONDS", "How long importing one module may take.", min=0.1)]
IMPORT_LIMIT = 60.0
"""Seconds for the import of task modules."""


def checked_branch(name: str) -> str:
    """Return `name` if it can be a branch; otherwise raise a usage error."""
    if _COMMIT.fullmatch(name):
        raise typer.BadParameter("this is a commit id; name the branch that the task publishes to.")
    if not _BRANCH.fullmatch(name):
        raise typer.BadParameter(f"{name!r} cannot be a branch: lakeFS allows only letters, digits, _ and -.")
    return name


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`, in the file of `@FILE`, or on standard input for `-`.

    Raises:
        typer.BadParameter: it cannot be read, or is not an object. The message never repeats the content.
    """
    source, value = _read_json(text, "--params")
    if not isinstance(value, dict):
        raise _wrong(f"{source} must be a JSON object, not {_KINDS.get(type(value), 'null')}.", "--params")
    return value


def read_refs(text: str, repository: str, resolved: Callable[[str], str]) -> tuple[str, ...]:
    """Return the commits that `text` gives as a `workspace.ref`: a commit id, or JSON as `read_object` takes it.

    Args:
        text: the value of the option.
        repository: the repository of the commits.
        resolved: returns the id of an expression such as `main~1`, which only lakeFS can resolve.

    Raises:
        typer.BadParameter: it gives no commit, or something that is not a commit.
    """
    from perago.taskdef.payload import commits_of

    if _SHORT_COMMIT.fullmatch(text):
        message = f"{text} is only a part of a commit id; write all 64 digits, which this command prints: "
        raise _wrong(f"{message}perago show {repository}/{text}", "--ref")
    if RELATIVE_COMMIT.fullmatch(text):
        return (resolved(text),)
    is_json = text.isdecimal() or text in ("true", "false", "null")
    if _BRANCH.fullmatch(text) and not is_json and not _COMMIT.fullmatch(text):
        message = f"{text!r} is not a commit id. For the head of a branch, omit --ref: perago input {repository}/{text}"
        raise _wrong(message, "--ref")
    if text[:1] not in ("[", "{", '"', "@", "-") and not is_json and not _COMMIT.fullmatch(text):
        accepted = "a commit id, an expression such as main~1 or main^, JSON, @FILE or -"
        raise _wrong(f"{text!r} is not a commit; write {accepted}.", "--ref")
    value = text if _COMMIT.fullmatch(text) else _read_json(text, "--ref")[1]
    problems: list[str] = []
    commits = commits_of(value, repository, problems, pointer="")
    if problems:
        raise _wrong("; ".join(problem.removeprefix(": ") for problem in problems), "--ref")
    return commits


def _read_json(text: str, option: str) -> tuple[str, Any]:
    """Return the source of the JSON, in words, and its value."""
    try:
        if text == "-":
            source, content = "standard input", sys.stdin.buffer.read()
        elif text.startswith("@"):
            source, content = text[1:], Path(text[1:]).read_bytes()
        else:
            source, content = "the value", text.encode()
        return source, strict_json(content.decode("utf-8-sig"))
    except OSError as error:
        raise _wrong(f"cannot read the file {text[1:]!r}: {error.strerror}.", option) from None
    except UnicodeDecodeError:
        raise _wrong(f"{source} is not UTF-8.", option) from None
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{source} is not JSON: {error}.", option) from None


def _wrong(message: str, option: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=f"'{option}'")


Json = Annotated[bool, option("--json", "Print one JSON document instead of lines (perago help cli).")]
Utc = Annotated[
    bool, option("--utc", "Show times in UTC instead of PERAGO_TIME_ZONE, the zone of the logs.", callback=show_utc)
]
Since = Annotated[str | None, option("--since AGE", "Not older than AGE, such as 12h or 7d.")]
Place = Annotated[str, argument("REPO/BRANCH", "A lakeFS repository, and a branch of it.")]
FormerPart = Annotated[str | None, argument("BRANCH", "", hidden=True)]
"""The second word of the former spelling, REPO BRANCH."""
Pdb = Annotated[bool, option("--pdb", "Run the function in this terminal, and debug it where it raises an error.")]


def output_option(what: str) -> Any:
    """Return the option of a command that writes a tree."""
    return option("--output -o DIR", f"Write {what} to DIR, which must be new or empty.")


def place_of(text: str, option: str = "--branch") -> tuple[str, str]:
    """Return the repository and the branch of REPO/BRANCH; raise a usage error for anything else."""
    repository, _, branch = text.partition("/")
    if not (repository and branch):
        raise _wrong(f"{text!r} is not REPO/BRANCH.", option)
    return repository, branch


def parts_of_place(text: str, former: str | None) -> tuple[str, str]:
    """Return the parts of REPO/BRANCH, or of REPO and `former`, the former spelling, with a warning."""
    if former is None:
        return place_of(text, "REPO/BRANCH")
    messages.warning(f"write {text}/{former}; the spelling with a space will be removed")
    return text, former


def check_output(output: Path | None) -> None:
    """Raise a usage error if files in `--output` would be overwritten."""
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"--output {output} exists and is not an empty directory; nothing was run.")


def seconds_of_age(text: str, option: str) -> float:
    """Return an age such as `12h` or `7d` in seconds; raise a usage error that names the option for anything else."""
    from perago.settings.variables import parse_age

    try:
        return parse_age(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is {error}.", param_hint=option) from None
