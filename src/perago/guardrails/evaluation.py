"""Evaluation of guardrails: every rule of a phase on one scan, every violation with what was found instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from perago.authoring.guardrails import Guardrail, Listing
from perago.workspace.keys import ACTIONS, MAX_KEY_BYTES, is_reserved, is_too_long
from perago.workspace.scan import Tree
from perago.workspace.text import count, listing, quoted


class Phase(StrEnum):
    """Before or after the task function."""

    PRE = "pre"
    POST = "post"


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one rule. `rule` is its text, None for the rules that always hold; `matched` is a number of
    files."""

    rule: str | None
    satisfied: bool
    matched: int
    message: str


def evaluate(rules: Iterable[Guardrail], tree: Listing, *, phase: Phase) -> tuple[Finding, ...]:
    """One finding for each rule, in their order."""
    return tuple(_finding(rule, tree, phase) for rule in rules)


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


def _finding(rule: Guardrail, tree: Listing, phase: Phase) -> Finding:
    verdict = rule.evaluate(tree)
    text = verdict.complaint or f"matched {count(verdict.matched, 'file')}"
    advice = rule.hint(tree) if verdict.complaint and not verdict.matched else None
    message = f"{phase} guardrail {rule}: {text}{f'; {advice}' if advice else ''}"
    return Finding(str(rule), verdict.complaint is None, verdict.matched, message)


def _always(rule: str, offenders: Sequence[str]) -> Iterator[Finding]:
    if offenders:
        yield Finding(None, False, len(offenders), f"post guardrail: {rule}: found {listing(offenders)}")
