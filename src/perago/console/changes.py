"""Changed files: of a commit against its first parent, and those that are not committed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request

from perago.console import links
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.paging import Paged, paged
from perago.console.text import plural, size
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree, two_dot
from perago.embedded.lakefs.values import Difference, DiffType

_PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One changed file: `kind` is added, changed or removed; the sizes are empty on the side that has no file."""

    file: Link
    kind: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a commit changed. `summary` counts everything, `rows` has one page of it."""

    summary: str
    rows: Paged[ChangeRow]


def changes_of(models: Models, repository: str, record: CommitRecord, request: Request) -> Changes:
    """What `record` changed against its first parent; the first commit against nothing."""
    parents = record.commit.parents
    parent = models.lakefs.get_commit(repository, parents[0]) if parents else None
    before = EMPTY_TREE if parent is None else parent.tree
    differences = two_dot(before, record.tree)
    page = paged(differences, request, size=_PAGE_SIZE)
    parent_id = parents[0] if parents else ""
    rows = [_row(repository, record.commit.id, parent_id, before, difference) for difference in page.items]
    return Changes(_summary(differences), page.showing(rows))


def uncommitted_rows(models: Models, repository: str, branch: str) -> tuple[tuple[ChangeRow, ...], bool]:
    """The first uncommitted changes of a branch, and whether there are more."""
    found = models.lakefs.diff_branch(repository, branch, amount=_PAGE_SIZE)
    rows = tuple(
        ChangeRow(link(difference.path), difference.type.value, "", size(difference.size))
        for difference in found.results
    )
    return rows, found.has_more


def _row(repository: str, commit_id: str, parent_id: str, before: Tree, difference: Difference) -> ChangeRow:
    removed = difference.type is DiffType.REMOVED
    old = before.get(difference.path)
    return ChangeRow(
        file=link(difference.path, links.file(repository, parent_id if removed else commit_id, difference.path)),
        kind=difference.type.value,
        before="" if old is None else size(old.blob.size),
        after="" if removed else size(difference.size),
    )


def _summary(differences: list[Difference]) -> str:
    counts = Counter(difference.type for difference in differences)
    parts = [f"{counts[kind]:,} {kind}" for kind in (DiffType.ADDED, DiffType.CHANGED, DiffType.REMOVED)]
    return f"{plural(len(differences), 'file')}: {', '.join(parts)}" if differences else "no file changed"
