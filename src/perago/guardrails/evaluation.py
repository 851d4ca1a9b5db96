"""Evaluation of guardrails: rules about contents, and every rule of a phase on one scan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, cast

from perago.authoring import WorkspaceSpec
from perago.authoring.workspace import Guardrail, Listing, Rule, Verdict
from perago.text import count, listing, quoted
from perago.workspace.keys import ACTIONS, EVERYTHING, MAX_KEY_BYTES, View, compile_glob, is_reserved, is_too_long
from perago.workspace.scan import Tree


class GuardrailDefect(Exception):
    """A guardrail could not judge, because it is defective or something that it needs is missing. The data is not the
    cause."""

    def __init__(self, message: str, *, detail: str | None = None, has_changed_the_tree: bool = False) -> None:
        """`message` follows the guardrail's name and says what happened, and where. `detail` is for the log."""
        super().__init__(message)
        self.detail = detail
        self.has_changed_the_tree = has_changed_the_tree


class ContentGuardrail(Rule):
    """A rule about the contents of files. `evaluate` checks the listing, for instance for a missing file.
    `evaluate_contents` reads the files, and runs only if all rules of the phase hold for the listing."""

    __slots__ = ()
    selects_files: ClassVar[bool] = True
    """Whether the rule names files, so that a message can count them."""

    @abstractmethod
    def evaluate_contents(self, tree: Tree) -> Verdict:
        """Whether the rule holds for the files on the disk.

        Args:
            tree: the scan of the workspace, which is at `tree.root`.

        Raises:
            GuardrailDefect: it cannot judge.
            OSError: the disk failed.
        """

    @abstractmethod
    def reads(self, path: str) -> bool:
        """Whether the contents of the file at `path` matter."""

    def missing(self) -> tuple[str, str] | None:
        """Return the missing library and the command that installs it, or None."""
        return None


def missing_of(workspace: WorkspaceSpec | None) -> list[tuple[str, str]]:
    """Return the missing libraries of all rules of a workspace, without duplicates."""
    rules = (*workspace.pre, *workspace.post) if workspace else ()
    libraries = (rule.missing() for rule in rules if isinstance(rule, ContentGuardrail))
    return list(dict.fromkeys(library for library in libraries if library))


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
    is_defect: bool = False
    """The rule is not satisfied because the guardrail itself is defective, or lacks a library."""
    detail: str | None = None
    """The details of a defect for the log, such as a traceback."""

    @property
    def phase(self) -> Phase:
        """The phase that its message begins with."""
        return Phase(self.message.partition(" ")[0])


def evaluate(
    rules: Iterable[Guardrail], tree: Listing, *, phase: Phase, disk: Tree | None = None
) -> tuple[Finding, ...]:
    """Return one finding for each judged rule, in the order of the rules.

    First all rules judge the listing. If all hold, rules about contents read the files. Otherwise these rules have no
    finding, because their files may be missing. After a guardrail that changes the tree, no other one runs.

    Args:
        rules: the guardrails of the phase.
        tree: all files, wherever they are.
        phase: for the messages.
        disk: the scan of the same files on a disk; None if they are not on a disk, so that their contents cannot be
            read.
    """
    kinds = cast("Iterable[Rule]", rules)  # each guardrail is of a kind
    judged = [(rule, _finding(rule, rule.evaluate(tree), tree, phase)) for rule in kinds]
    if disk is None or not all(finding.satisfied for _, finding in judged):
        return tuple(
            finding for rule, finding in judged if not (isinstance(rule, ContentGuardrail) and finding.satisfied)
        )
    findings, is_as_scanned = [], True
    for rule, finding in judged:
        if not isinstance(rule, ContentGuardrail):
            findings.append(finding)
        elif is_as_scanned:
            content_finding, is_as_scanned = _evaluate_content(rule, disk, tree, phase)
            findings.append(content_finding)
    return tuple(findings)


def naming_hidden(
    findings: Iterable[Finding], rules: Iterable[Guardrail], hidden: Collection[str], view: View
) -> tuple[Finding, ...]:
    """Return the findings, with a note on each violation about a file that `view` hides from the task. `hidden` are
    such files."""
    by_text = {str(rule): rule for rule in rules}

    def noted(finding: Finding) -> Finding:
        rule = by_text.get(finding.rule or "")
        files = [] if finding.satisfied or finding.is_defect else [path for path in hidden if not path.endswith("/")]
        hidden_files = [path for path in files if _is_about(rule, path) or ("." in path and path in finding.message)]
        if not hidden_files:
            return finding
        names = listing([quoted(path) for path in sorted(hidden_files)], 3)
        return replace(finding, message=f"{finding.message}; the task does not see {names}: {view}")

    return tuple(map(noted, findings)) if hidden else tuple(findings)


def _is_about(rule: Guardrail | None, path: str) -> bool:
    pattern = getattr(rule, "pattern", None)
    return path == getattr(rule, "path", None) or (pattern is not None and bool(compile_glob(pattern).fullmatch(path)))


def check_tree(
    tree: Tree, key_prefix: str, view: View = EVERYTHING, hidden: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Return violations of the rules that hold after every task function. They forbid files that cannot be published,
    that replace the publish fence, or that are outside of `view`. `hidden` are the files of the input that `view`
    leaves out."""
    irregular = [f"{quoted(entry.path)} ({entry.kind})" for entry in tree.irregular]
    reserved = [quoted(path) for path in tree.files if is_reserved(key_prefix + path)]
    too_long = [quoted(path) for path in tree.files if is_too_long(key_prefix + path)]
    unreadable = [f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable]
    trespasses = [f"{quoted(path)} ({problem})" for path, problem in view.trespasses(tree.files, hidden)]
    return (
        *_always("only files and directories can be published", irregular),
        *_always(f"a task must not write hooks in {ACTIONS}/", reserved),
        *_always(f"a key has at most {MAX_KEY_BYTES:,} bytes, the prefix included", too_long),
        *_always("the whole tree must be readable", unreadable),
        *_always("a task can write only files that its include and exclude select", trespasses),
    )


def _evaluate_content(rule: ContentGuardrail, disk: Tree, tree: Listing, phase: Phase) -> tuple[Finding, bool]:
    """Return the finding, and whether the tree is unchanged since the scan."""
    try:
        return _finding(rule, rule.evaluate_contents(disk), tree, phase), True
    except GuardrailDefect as defect:
        message = f"{phase} guardrail {rule.brief}: {defect}"
        finding = Finding(str(rule), False, 0, message, is_defect=True, detail=defect.detail)
        return finding, not defect.has_changed_the_tree


def _finding(rule: Rule, verdict: Verdict, tree: Listing, phase: Phase) -> Finding:
    selects = not isinstance(rule, ContentGuardrail) or rule.selects_files
    text = verdict.complaint or (f"matched {count(verdict.matched, 'file')}" if selects else "holds")
    advice = rule.hint(tree) if verdict.complaint and not verdict.matched else None
    message = f"{phase} guardrail {rule.brief}: {text}{f'; {advice}' if advice else ''}"
    return Finding(str(rule), verdict.complaint is None, verdict.matched, message)


def _always(rule: str, offenders: Sequence[str]) -> Iterator[Finding]:
    if offenders:
        yield Finding(None, False, len(offenders), f"post guardrail: {rule}: found {listing(offenders)}")
