"""Kind `robust`: find inputs that the `pre` guardrails of a task accept, but on which its function fails.

Each input is a declared case with one named mutation of its files or params. A finding is an exception other than
`TaskFailed` and `TaskTerminalError`, a hang, a violated `post` guardrail, an invalid result, or a file outside of the
workspace.
"""

from __future__ import annotations

import datetime
import difflib
import json
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perago.atomic_file import replace_file
from perago.authoring import Task
from perago.text import count
from perago.trees.cases import CaseFailed, Cause, RunCase, recorded_cases, tree_literal
from pytest_perago.kinds import Case, printable
from pytest_perago.kinds.run import declared_cases, location_of, readable_cases
from pytest_perago.options import OPT_OUT, ROBUST, is_under_ci
from pytest_perago.session import Session

if TYPE_CHECKING:
    from pytest_perago.kinds.robust.attacks import Attack, AttackFinding, Failure, Mutant

_MOST_SHOWN = 5
"""Findings that are shown in full; the others get a line each."""
_MOST_LABELS = 6
_MOST_TRIED = 3
_TRIED = "tried: this finding goes, no new one comes, and all examples pass"
_TRIED_FIELDS = (
    "one or two limits of Field for each parameter: for one, none refuses its values and accepts the examples"
)
_MOST_DIFF = 8
_LONGEST_TREE = 400
"""Characters of the files of an example to paste."""

_ADVICE = {
    'open(..., encoding="utf-8-sig")': "bom",
    "read all files, or name the one that you need": "second-file",
    "test whether the file exists": "optional-file-gone",
    "test the sign": "negative",
    "test for 0": "zero",
    "test the size of the number": "wide-int",
    "sort the rows first": "unsorted",
    "take the last line as a row, whether or not a line end follows": "no-final-newline",
    "narrow the guardrails to what the function needs, such as min_count, min_rows or min_bytes": "smallest-tree",
    "find values by their keys": "key-order",
    "skip blank lines": "blank-line-end blank-line-middle",
    "expect the same name in two directories, or name the directory that you need": "sub-directory",
    "test whether the file is empty": "empty-file",
    "test for February 29, which most years do not have": "date-edge",
    "drop duplicates, or say which row is there twice": "duplicate-row",
    "test whether the function knows the text, and say which text it does not know": "other-text",
    "test whether keys are unique, and say which one is not": "same-key",
    "convert the columns, or read the complete table": "narrow dictionary large-string row-groups",
    "test whether there are any rows": "header-only zero-rows empty-list one-row",
    "test whether it has a value": (
        "empty-number empty-text all-empty-column null nulls int-nulls null-number null-type na-text"
    ),
    "find columns by their names, and say which one is missing": (
        "missing-column header-case header-space reordered extra-column"
    ),
    "read the file with `csv`, not with `split` or line by line": "quoted-delimiter quoted-newline doubled-quote crlf",
    "test the number with math.isfinite": "nan inf NaN-literal",
    "do not use such texts as file names": "slash-in-text dots long-text",
    "catch UnicodeDecodeError": "latin1 utf16",
    "catch the exception of the reader, and say which file is damaged": (
        "cut-half cut-last-byte trailing-garbage wrong-magic"
    ),
    "validate the document with a pydantic model before you use it": (
        "missing-key empty-object string-for-number bool-for-number nested list-for-scalar"
    ),
    "name the files that you need exactly": "foreign-file odd-name directory-like-file",
    "convert all times to UTC, and say which zone a time without one has": "mixed-zones",
    "sort what glob, iterdir, listdir and scandir return": "listing-order",
}
"""Advice to the author, and the labels of the inputs that it is about. `_handled` has the default."""
_HANDLED = {label: advice for advice, labels in _ADVICE.items() for label in labels.split()}


def cases_robust(task: Task, session: Session) -> Iterable[Case]:
    """Yield tests that change the files of the declared cases, combine such changes, and change their params."""
    sources = _sources(task, session)
    if not sources:
        return
    place = location_of(sources[0])
    if task.workspace is not None:
        yield Case("files", partial(_check, task, "files"), place)
        yield Case("search", partial(_check, task, "search"), place)
    if task.params_model.model_fields:
        yield Case("params", partial(_check, task, "params"), place)


def _check(task: Task, what: str, session: Session) -> None:
    from pytest_perago.kinds.robust.attacks import Attack, CrashNotes  # the services are loaded when something runs

    if what == "search" and is_under_ci():
        pytest.skip("combinations are not tried where CI is set")
    cases = [case for _, case in readable_cases(_sources(task, session))]
    notes_of_crashes = CrashNotes(session.cache_file(f"robust-{task.name}-{what}.json"))
    attack = Attack(task, cases, session, notes_of_crashes)
    files, level = what != "params", session.settings.robust_level
    mutants = attack.with_other_files(level) if files else list(attack.with_other_params())
    baseline = Baseline.read(task, what, session)
    opted_out: dict[str, str] = {}
    """The reasons of the lines of `perago_skip` that hid a failure, by the label of the mutation. A line is such as
    `features.build::robust[files:bom]: reason`."""

    def is_accepted(mutant: Mutant, failure: Failure) -> bool:
        if failure.key in attack.accepted:
            return True
        name = f"robust[{what}:{mutant.label}]"
        for opt_out in session.opt_outs:
            if opt_out.covers(task.name, name):
                opted_out.setdefault(mutant.label, opt_out.reason)
                return True
        return baseline.covers(failure)

    findings = (attack.search if what == "search" else attack.run)(mutants, is_accepted)
    notes_of_crashes.close()
    if findings and session.settings.update:
        session.add_snapshot(baseline.write(findings))
        findings = []
    notes = [f"{len(baseline.used)} accepted in {baseline.shown}"] if baseline.used else []
    if not attack.tally.stopped and not session.settings.update:
        notes += [f"{baseline.shown} accepts a finding that no longer happens: {key}" for key in baseline.unused]
    for label, reason in opted_out.items():
        session.item.user_properties.append((OPT_OUT, f"{label}: {reason}"))
    session.item.user_properties.append((ROBUST, "; ".join([str(attack.tally), *notes])))
    if findings:
        raise _failed(attack, findings, f"accept all: {session.rerun_command('--perago-update=new')}")


def _sources(task: Task, session: Session) -> list[RunCase | Path]:
    """Return the declared cases, then the recorded ones."""
    declared = list(declared_cases(task, session))
    is_off = session.settings.run == "off"
    return [*declared, *(() if is_off else recorded_cases(session.settings.cases_dir, task.name))]


class Baseline:
    """The accepted findings of one test, in `<perago_robust_dir>/<task>.<files or params>.toml`.

    Each needs a reason, and may have a date on which it expires.
    """

    def __init__(self, file: Path, shown: str, entries: Sequence[Mapping[str, Any]]) -> None:
        self._file = file
        self._entries = entries
        self.shown = shown
        self.used: set[str] = set()

    @classmethod
    def read(cls, task: Task, what: str, session: Session) -> Baseline:
        """Read the file; a missing file accepts nothing.

        Raises:
            CaseFailed: it is not valid, or an entry has no reason.
        """
        file = session.settings.robust_dir / f"{task.name}.{what}.toml"
        shown = session.settings.shown(file)
        try:
            entries = tomllib.loads(file.read_text(encoding="utf-8")).get("accepted", [])
        except FileNotFoundError:
            return cls(file, shown, [])
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CaseFailed(Cause.MISTAKE, f"{shown} cannot be read: {error}") from None
        for number, entry in enumerate(entries, start=1):
            if not entry.get("key") or (not entry.get("reason") and not session.settings.update):
                problem, key = f"{shown}: accepted finding {number} has no reason", ("key", str(entry.get("key", "")))
                fix = "write in `reason` why this failure is acceptable"
                raise CaseFailed(Cause.MISTAKE, problem, key, ("fix", fix))
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        return cls(file, shown, [entry for entry in entries if str(entry.get("expires", "9999")) > today])

    def covers(self, failure: Failure) -> bool:
        """Whether a failure is accepted."""
        is_known = any(entry["key"] == failure.key for entry in self._entries)
        if is_known:
            self.used.add(failure.key)
        return is_known

    @property
    def unused(self) -> list[str]:
        """Keys of failures that did not happen."""
        return [entry["key"] for entry in self._entries if entry["key"] not in self.used]

    def write(self, findings: Sequence[AttackFinding]) -> str:
        """Add findings, for which a person must give the reasons. Return a description of the written file."""
        new = [{"key": finding.failure.key, "label": finding.labels[0], "reason": ""} for finding in findings]
        blocks = []
        for entry in (*self._entries, *new):
            lines = [f"{name} = {json.dumps(str(value), ensure_ascii=False)}" for name, value in entry.items()]
            blocks.append("\n".join(["[[accepted]]", *lines]) + "\n")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, "\n".join(blocks).encode())
        return f"accepted {count(len(new), 'finding')} in {self.shown}: write the reasons into it"


# -------------------------------------------------------------------------------------- the report


def _failed(attack: Attack, findings: Sequence[AttackFinding], accept: str) -> CaseFailed:
    worst = findings[0]
    accepts = "all pre guardrails accept" if attack.rules else "nothing refuses, because the task has no pre guardrails"
    is_of_rule = worst.failure.key.startswith("guardrail ")
    summary = worst.failure.summary if is_of_rule else f"{worst.failure.summary}, for an input that {accepts}"
    if len(findings) > 1:
        summary += f" (and {count(len(findings) - 1, 'other finding')})"
    printed: dict[str, str] = {}
    details = [_shown(attack, finding, printed) for finding in findings[:_MOST_SHOWN]]
    details += [
        f"also: {finding.failure.summary} with {', '.join(finding.labels)}" for finding in findings[_MOST_SHOWN:]
    ]
    details.append(accept)
    return CaseFailed(Cause.MISTAKE, summary, ("tried", str(attack.tally)), details=details)


def _shown(attack: Attack, finding: AttackFinding, printed: dict[str, str]) -> str:
    """Describe a finding with its fix. `printed` as in `Remedy.to_paste`."""
    from pytest_perago.kinds.robust.attacks import CHANGED_RESULT
    from pytest_perago.kinds.robust.remedies import constraint_for, remedy_for

    mutant, failure = finding.mutants[0], finding.failure
    labels = finding.labels[:_MOST_LABELS]
    more = f", and {len(finding.labels) - len(labels)} more" if len(finding.labels) > len(labels) else ""
    others = f" ({len(finding.mutants)} inputs cause it: {', '.join(labels)}{more})" if len(finding.mutants) > 1 else ""
    lines = [
        f"--- {failure.summary}",
        f"  input   case {mutant.seed.case.case.label!r} with {mutant.label}: {mutant.description}{others}",
        *(f"          {line}" for line in _difference(mutant)),
        f"  why     {_why(attack, failure)}",
    ]
    if failure.key.startswith("guardrail "):
        lines.append("  advice  catch the exception in the guardrail, and return a text that describes the problem")
    else:
        remedy, failures = (None, [_TRIED_FIELDS]) if mutant.is_of_params else remedy_for(attack, finding)
        code = remedy.to_paste(attack.namespace, printed) if remedy else None
        if mutant.is_of_params:
            code = constraint_for(attack, finding.mutants)
            code = f"{code}\nfrom pydantic import Field" if code and "Field" not in attack.namespace else code
        legal_inputs = attack.legal_inputs_refused_by(remedy.rules) if remedy else []
        handled = f"handle it: {_handled(next((legal for legal in legal_inputs if legal in finding.mutants), mutant))}"
        if code is None:
            lines += [*(f"  tried   {text}" for text in failures[:_MOST_TRIED]), f"  advice  {handled}"]
        elif legal_inputs:
            refused = ", ".join(dict.fromkeys(legal.label for legal in legal_inputs))
            code = f"refuse it, and legal files, too: {refused} ({_TRIED}): {code}"
            lines += [f"  advice  {handled}", "  or      " + _indented(code)]
        else:
            lines += [f"  fix     {_indented(f'refuse it ({_TRIED}): {code}')}", f"  or      {handled}"]
    is_declarable = not failure.key.startswith((CHANGED_RESULT, "crash", "hang", "writes outside", "invalid result"))
    expect = "post" if failure.key.startswith("post ") else "failed"
    example = _example(mutant, expect) if is_declarable else None
    if example is None:
        what = "params" if mutant.is_of_params else "search" if mutant.parts else "files"
        skips = [f'"{attack.task.name}::robust[{what}:{label}]: <why it may fail>"' for label in finding.labels]
        example = f"perago_skip = [{', '.join(skips)}]"
    lines.append(f"  accept  {example}")
    if failure.detail:
        lines += [f"  {line}" for line in failure.detail.rstrip().splitlines()]
    return "\n".join(lines)


def _indented(code: str) -> str:
    return textwrap.indent(code, " " * 10).lstrip()


def _why(attack: Attack, failure: Failure) -> str:
    from pytest_perago.kinds.robust.attacks import CHANGED_BY_LISTING, CHANGED_RESULT

    if failure.key == CHANGED_BY_LISTING:
        return "no file system promises an order, so a retry can publish something else"
    if failure.key.startswith("guardrail "):
        return "a guardrail must return a text for data that it refuses; an exception is retried"
    if failure.key.startswith("crash"):
        return "a worker loses its process, and Conductor delivers the same input again"
    if failure.key.startswith(CHANGED_RESULT):
        return "the file holds the same data, and nothing fails, so the wrong result goes unnoticed"
    if failure.key == "writes outside":
        return "only the workspace is published, and other attempts use the same machine"
    retries = attack.task.controls.retry.count
    return f"Conductor retries this {retries} times with the same input" if retries else "the attempt fails"


def _handled(mutant: Mutant) -> str:
    parts = mutant.parts or (mutant,)
    advice = _HANDLED.get(parts[0].label, "test for it, or catch the exception")
    return f'{advice}; or raise TaskTerminalError("...") to end the task without retries'


def _difference(mutant: Mutant) -> list[str]:
    """Return the changed text of a file as a short diff; nothing for other changes, because their description is
    complete."""
    for path, content in mutant.files.items() if not mutant.is_of_params else ():
        before = mutant.seed.files.get(path)
        if before not in (None, content) and before is not None:
            try:
                old, new = before.decode().splitlines(), content.decode().splitlines()
            except UnicodeDecodeError:
                return []
            lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
            shown = [ascii(line)[1:-1] for line in lines if not line.startswith("@@")]
            return [printable(line[:100]) for line in shown[:_MOST_DIFF]] if shown else []
    return []


def _example(mutant: Mutant, expect: str) -> str | None:
    """Return the input as an example to paste; None if it is too long or not text."""
    tree: dict[str, str] = {}
    for path, content in mutant.files.items():
        try:
            tree[path] = content.decode()
        except UnicodeDecodeError:
            return None
    if sum(map(len, tree.values())) > _LONGEST_TREE:
        return None
    name = mutant.label.replace(" + ", "-and-").replace("_", "-")
    shown = ", tree=" + tree_literal(tree).replace("\n", "\n          ") if tree else ""
    return f'Example(id="{name}", params={dict(mutant.params)!r}{shown}, expect="{expect}")'
