"""Evaluation of guardrails: every rule of a phase on one scan, every violation with what was found instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireDir, RequireFile, RequireGlob
from perago.workspace.glob import compile_glob
from perago.workspace.hints import Surroundings, hint
from perago.workspace.keys import ACTIONS, MAX_KEY_BYTES, is_reserved, is_too_long
from perago.workspace.scan import Tree
from perago.workspace.text import count, listing, quoted


class Phase(StrEnum):
    """Before or after the task function."""

    PRE = "pre"
    POST = "post"


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one rule. `rule` is None for the rules that always hold; `matched` is a number of files."""

    rule: Guardrail | None
    satisfied: bool
    matched: int
    message: str


def evaluate(
    rules: Iterable[Guardrail], tree_paths: Collection[str], *, phase: Phase, directories: Collection[str] = ()
) -> tuple[Finding, ...]:
    """One finding for each rule, in their order, on the relative paths of all files.

    `directories` (empty ones matter only) make hints better; no rule depends on them.
    """
    surroundings = Surroundings(tree_paths, directories)
    return tuple(_evaluate(rule, tree_paths, phase, surroundings) for rule in rules)


def check_tree(tree: Tree, key_prefix: str) -> tuple[Finding, ...]:
    """Violations of what holds after every task function, whatever its rules: all that could not be published, or
    would take the publish fence away (docs/design/contract.md 2). Empty if there are none."""
    irregular = [f"{quoted(entry.path)} ({entry.kind})" for entry in tree.irregular]
    reserved = [quoted(path) for path in tree.files if is_reserved(key_prefix + path)]
    too_long = [quoted(path) for path in tree.files if is_too_long(key_prefix + path)]
    unreadable = [f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable]
    return (
        *_always("only files and directories can be published", irregular),
        *_always(f"the hooks in {ACTIONS}/ are not the task's to write", reserved),
        *_always(f"a key has at most {MAX_KEY_BYTES:,} bytes, the prefix included", too_long),
        *_always("the whole tree must be readable", unreadable),
    )


def _evaluate(rule: Guardrail, paths: Collection[str], phase: Phase, surroundings: Surroundings) -> Finding:
    matched = _matches(rule, paths)
    complaint = _complaint(rule, matched)
    text = complaint or f"matched {count(len(matched), 'file')}"
    advice = hint(rule, surroundings) if complaint and not matched else None
    message = f"{phase} guardrail {rule}: {text}{f'; {advice}' if advice else ''}"
    return Finding(rule, complaint is None, len(matched), message)


def _matches(rule: Guardrail, paths: Collection[str]) -> Sequence[str]:
    match rule:
        case RequireFile(path):
            return [path] if path in paths else []
        case RequireDir(path):
            return [file for file in paths if file.startswith(f"{path}/")]
        case RequireGlob(pattern) | ForbidGlob(pattern):
            matches = compile_glob(pattern).fullmatch
            return [file for file in paths if matches(file)]


def _complaint(rule: Guardrail, matched: Sequence[str]) -> str | None:
    """What is wrong, or None."""
    found = f"matched {count(len(matched), 'file')}"
    match rule:
        case RequireFile():
            return None if matched else "no such file"
        case RequireDir():
            return None if matched else "no file below it"
        case RequireGlob(_, least, most):
            if len(matched) < least:
                return f"{found}: {_named(matched)}" if matched else found
            return f"{found}: {_named(matched)}" if most is not None and len(matched) > most else None
        case ForbidGlob():
            return f"{found}: {_named(matched)}" if matched else None


def _named(paths: Iterable[str]) -> str:
    return listing([quoted(path) for path in sorted(paths)])


def _always(rule: str, offenders: Sequence[str]) -> Iterator[Finding]:
    if offenders:
        yield Finding(None, False, len(offenders), f"post guardrail: {rule}: found {listing(offenders)}")
