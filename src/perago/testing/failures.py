"""The failure of a generated test, and its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

_MOST_FILES = 20
_LONGEST_CONTENT = 400


class Cause(StrEnum):
    """Whose fault it is. A fourth cause, an error of the harness, is any other exception of a generated test."""

    MISTAKE = "mistake in the task"
    RULE = "rule violated"
    CONTRACT = "broken contract"


class CaseFailed(AssertionError):
    """A generated test failed. The item that ran it adds `subject` and `rerun` before pytest prints it.

    Args:
        cause: whose fault it is.
        summary: what is wrong, in one line.
        facts: label and text, such as `("expected", "COMPLETED")`.
        tree: the tree that the test was about, shown as Python.
        details: blocks of text that follow.
        rerun_options: what pytest needs to find the same example again.
    """

    def __init__(
        self,
        cause: Cause,
        summary: str,
        *,
        facts: Sequence[tuple[str, str]] = (),
        tree: Mapping[str, object] | None = None,
        details: Sequence[str] = (),
        rerun_options: Sequence[str] = (),
    ) -> None:
        super().__init__(summary)
        self.cause = cause
        self.summary = summary
        self.facts = tuple(facts)
        self.tree = tree
        self.details = tuple(details)
        self.rerun_options = tuple(rerun_options)
        self.subject = ("", "")
        self.rerun = ""

    @property
    def headline(self) -> str:
        """The problem in one line: the summary and the first fact that tells more."""
        facts = dict(reversed(self.facts))
        more = next((facts[label] for label in ("actual", "rule", "ignored") if label in facts), "")
        return f"{self.summary}: {more}".rstrip(": ").replace("\n", "; ")

    def __str__(self) -> str:
        facts = ([self.subject] if self.subject[0] else []) + list(self.facts)
        if self.tree is not None:
            facts.append(("tree", tree_literal(self.tree)))
        width = max((len(label) for label, _ in facts), default=0)
        indent = "\n" + " " * (width + 4)
        lines = [f"{self.cause}: {self.summary}"]
        lines += [f"  {label:<{width}}  {text.replace(chr(10), indent)}" for label, text in facts]
        lines += [block.rstrip("\n") for block in self.details if block.strip()]
        if self.rerun:
            lines.append(f"rerun: {self.rerun}")
        return "\n".join(lines)


CaseFailed.__module__ = "builtins"  # pytest's short summary then shows the bare name, as for its own failures


def tree_literal(tree: Mapping[str, object]) -> str:
    """A tree as Python that can be pasted into a test; long contents and long trees are cut."""
    if not tree:
        return "{}"
    lines = [f"    {path!r}: {_content(content)}," for path, content in sorted(tree.items())[:_MOST_FILES]]
    if len(tree) > _MOST_FILES:
        lines.append(f"    # and {len(tree) - _MOST_FILES} more files")
    return "\n".join(["{", *lines, "}"])


def _content(content: object) -> str:
    if not isinstance(content, str | bytes) or len(content) <= _LONGEST_CONTENT:
        return repr(content)
    return f"{content[:_LONGEST_CONTENT]!r}  # the first of {len(content):,}"
