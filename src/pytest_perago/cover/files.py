"""Would any guardrail notice if a file that an example publishes were absent, empty or cut off?

The example is run once more. Each file that it has added or changed is damaged in the tree that the function left, and
the post guardrails judge that tree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.authoring.guardrails import Guardrail
from perago.driver import Raised, Returned
from perago.guardrails.evaluation import Phase, evaluate
from perago.ports import TaskStatus
from perago.testing.building import fast_directory, write_tree
from perago.testing.cases import RunCase, read_tree
from perago.testing.services import InMemoryServices, call_and_note
from perago.workspace.scan import scan_tree
from pytest_perago.confinement import leaving_no_process
from pytest_perago.cover.model import Absence, FileCover
from pytest_perago.faults.play import read_files
from pytest_perago.watch import Watch

MOST_FILES = 100
"""Published files of one example that are damaged."""
_MOST_ALIKE = 20
"""Files that are taken away together."""


def covered_files(task: Task, case: RunCase, watch: Watch) -> tuple[list[FileCover], int]:
    """What the guardrails notice of each file that the case publishes, and how many files more it publishes.

    Raises:
        TimeLimitExceeded: the function takes too long.
    """
    if task.workspace is None or task.workspace.read_only:
        return [], 0
    with watch:
        tree, paths = _published(task, case, watch)
    with tempfile.TemporaryDirectory(prefix="perago-cover-", dir=fast_directory()) as scratch:
        root = Path(scratch, "workspace")
        root.mkdir()
        write_tree(root, tree)
        judge = _Judge(task.workspace.post, root, tree)
        return [judge.cover(case.label, path, paths) for path in paths[:MOST_FILES]], max(0, len(paths) - MOST_FILES)


def _published(task: Task, case: RunCase, watch: Watch) -> tuple[Mapping[str, bytes], Sequence[str]]:
    """The tree after the function, and the files of it that are published; nothing if the attempt does not complete."""
    found: list[Mapping[str, bytes]] = []

    def call(task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        with leaving_no_process(), watch.code_of_author():
            ended = call_and_note(task, workspace, params, current)
        if workspace is not None:
            found.append(read_files(workspace))
        return ended

    prefix = task.workspace.key_prefix if task.workspace else ""
    with InMemoryServices(call=call) as services:
        ref = services.seed({prefix + path: content for path, content in read_tree(case.tree).items()})
        services.start(task, case.params, ref=ref)
        record = services.run_delivery(task, services.take(task))
    if not found or record.report is None or record.report.status is not TaskStatus.COMPLETED:
        return {}, ()
    return found[0], sorted(file.path for file in (*record.changes.added, *record.changes.changed))


class _Judge:
    """Damages a tree on a disk, and asks the rules."""

    def __init__(self, rules: Sequence[Guardrail], root: Path, tree: Mapping[str, bytes]) -> None:
        self._rules = rules
        self._root = root
        self._tree = tree

    def cover(self, example: str, path: str, published: Sequence[str]) -> FileCover:
        """What is noticed of one file."""
        content = self._tree[path]
        noticed = set(self._without([path]))
        absent: Absence = "alone" if noticed else "no"
        if not noticed:
            noticed = self._in_company(path, published)
            absent = "with others" if noticed else "no"
        empty = self._with(path, b"") if content else None
        half = self._with(path, content[: len(content) // 2]) if len(content) > 1 else None
        noticed |= (empty or set()) | (half or set())
        return FileCover(
            example,
            path,
            absent,
            None if empty is None else bool(empty),
            None if half is None else bool(half),
            sorted(noticed),
        )

    def _in_company(self, path: str, published: Sequence[str]) -> set[str]:
        """The rules that miss the file once as many others like it are gone as they allow. A rule that wants one of
        several files misses none alone."""
        for alike in (_same_place, _same_ending):
            gone: list[str] = []
            for other in [each for each in published if each != path and alike(each, path)][:_MOST_ALIKE]:
                if not self._without([*gone, other]):
                    gone.append(other)
            if gone and (noticed := self._without([*gone, path])):
                return noticed
        return set()

    def _without(self, paths: Sequence[str]) -> set[str]:
        for path in paths:
            (self._root / path).unlink()
        return self._restored(paths)

    def _with(self, path: str, content: bytes) -> set[str]:
        (self._root / path).write_bytes(content)
        return self._restored([path])

    def _restored(self, paths: Sequence[str]) -> set[str]:
        """The rules that the tree violates now; then it is as it was."""
        tree = scan_tree(self._root)
        findings = evaluate(self._rules, tree.listing, phase=Phase.POST, disk=tree)
        write_tree(self._root, {path: self._tree[path] for path in paths})
        return {str(finding.rule) for finding in findings if not finding.satisfied}


def _same_place(one: str, other: str) -> bool:
    return PurePosixPath(one).parent == PurePosixPath(other).parent and _same_ending(one, other)


def _same_ending(one: str, other: str) -> bool:
    return PurePosixPath(one).suffix == PurePosixPath(other).suffix
