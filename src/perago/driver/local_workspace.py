"""`LocalWorkspace`: the attempt directory, its tree, and the changes of the function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from perago.authoring import WorkspaceSpec
from perago.authoring.workspace import Listing
from perago.cache import CacheUnusable, give_room
from perago.driver.runtime import CleanUp, Limits
from perago.guardrails.evaluation import ContentGuardrail, Finding, Phase, check_tree, evaluate, naming_hidden
from perago.ports import Delivery, ObjectEntry, Placement, Upload
from perago.text import count, listing, quoted
from perago.workspace.changes import Baseline, ChangedFile, Changes, combined, detect_changes
from perago.workspace.directory import AttemptDirectory
from perago.workspace.file_types import UNKNOWN, content_type_of
from perago.workspace.keys import View, is_reserved
from perago.workspace.layout import (
    RESERVE,
    NoRoom,
    check_room,
    create_directories,
    directories_to_create,
    listing_of,
    plan_layout,
)
from perago.workspace.scan import Tree, check_closed, scan_tree

_BLOCK = 4096
"""The bytes that rounding up may add to each file."""
_SMALL, _SMALL_SIZE = 1000, 64 * 2**20
"""Files and bytes of a workspace that is removed within milliseconds, and whose room the next attempt can spare."""


class LocalWorkspace:
    """Holds the attempt directory from the download to its removal."""

    def __init__(self, spec: WorkspaceSpec, root: Path, delivery: Delivery, limits: Limits) -> None:
        self._spec = spec
        self._root = root
        self._delivery = delivery
        self._limits = limits
        self._directory: AttemptDirectory | None = None
        self._baseline = Baseline({})
        self._tree: Tree | None = None
        self._placements: list[Placement] = []
        self._view = View.of(spec)
        self.changes: Changes = Changes()
        """The changes of the function to the tree, as of the last `detect_changes`."""
        self._hidden: frozenset[str] = frozenset()
        """The files and directory markers of the input that the task does not see, relative."""
        self.unread: tuple[str, ...] = ()
        """The contents that no post guardrail has judged, after a rebase, in words."""
        self.total_objects: int = 0
        self.landed_objects: int = 0
        self.total_size: int = 0
        self.landed_size: int = 0
        """Number and size of all files of the workspace, and of the files that an interrupted download has written."""

    @property
    def directory(self) -> AttemptDirectory:
        """The attempt directory."""
        if self._directory is None:
            raise ValueError("the attempt directory does not exist yet")
        return self._directory

    @property
    def path(self) -> Path:
        """The directory that the function gets as its workspace."""
        return self.directory.workspace

    def create(self) -> None:
        """Make the attempt directory.

        Raises:
            DirectoryRefused: an id is hostile, the root is unusable, or the directory is in use.
        """
        self._directory = AttemptDirectory.create(self._root, self._delivery)

    def lay_out(self, entries: Sequence[ObjectEntry]) -> None:
        """Decide where the objects of a listing go.

        Raises:
            LayoutRefused: keys that cannot be files.
        """
        prefix = self._spec.key_prefix
        seen, hidden = [], set[str]()
        for entry in entries:
            path = entry.key[len(prefix) :]
            if is_reserved(entry.key) or self._view.sees(path):
                seen.append(entry)
            elif path:
                hidden.add(path)
        self._hidden = frozenset(hidden)
        self._placements = plan_layout(seen, prefix, self.path)
        sizes = [placement.entry.size for placement in self._placements if placement.path is not None]
        self.total_objects, self.total_size = len(sizes), sum(sizes)

    def empty_selection_note(self) -> str | None:
        """Return a note if `include` and `exclude` select no file of an input that has files."""
        files = sum(not path.endswith("/") for path in self._hidden)
        if self.total_objects or not files:
            return None
        return f"include and exclude leave none of the {count(files, 'file')} of the workspace ref"

    def make_room(self) -> None:
        """Make the directories that the files need.

        Raises:
            NoRoom: other attempts leave too little space.
            LayoutRefused: the workspace is larger than the limit or this disk.
            OSError: the disk refused.
        """
        try:
            self._check_room()
        except NoRoom as refused:
            if not (refused.is_passing and self._take_from_cache()):
                raise
            self._check_room()
        prefix = self._spec.key_prefix
        create_directories(self.path, directories_to_create(self._placements, prefix))

    def _check_room(self) -> None:
        prefix, limit = self._spec.key_prefix, self._limits.max_workspace_bytes
        check_room(self._placements, prefix, self.path, max_bytes=limit, root=self._root)

    def _take_from_cache(self) -> bool:
        """Delete cached objects to make room for the workspace. Return False if the cache is empty."""
        try:
            return give_room(self._root, self.total_size + self.total_objects * _BLOCK + RESERVE)
        except (CacheUnusable, OSError):
            return False

    def missing(self) -> Sequence[Placement]:
        """Return the files that have not arrived yet. A file appears only when it is complete."""
        found = scan_tree(self.path, self.directory.held).files
        missing, self.landed_objects, self.landed_size = [], 0, 0
        prefix = self._spec.key_prefix
        for placement in self._placements:
            if placement.path is None:
                continue
            file = found.get(placement.entry.key[len(prefix) :])
            if file is None or file.size != placement.entry.size:
                missing.append(placement)
            else:
                self.landed_objects += 1
                self.landed_size += file.size
        return missing

    def record(self) -> None:
        """Remember the tree as it was downloaded."""
        self._tree = scan_tree(self.path, self.directory.held)
        self._baseline = Baseline.record(self._tree, self._placements, self._spec.key_prefix)

    def check_listing(self) -> tuple[Finding, ...]:
        """Return the verdicts of the `pre` guardrails on the server's listing, which has only names and sizes."""
        findings = evaluate(self._spec.pre, listing_of(self._placements, self._spec.key_prefix), phase=Phase.PRE)
        return naming_hidden(findings, self._spec.pre, self._hidden, self._view)

    def check(
        self, phase: Literal["pre", "post"], around: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> tuple[Finding, ...]:
        """Return the verdicts of one phase on one scan, which change detection then uses, too. `around` is entered
        while guardrails look into files."""
        if phase == "post":
            check_closed(self.path)
        if self._tree is None or phase == "post":
            self._tree = scan_tree(self.path, self.directory.held)
        tree = self._tree
        rules = self._spec.pre if phase == "pre" else self._spec.post
        always = check_tree(tree, self._spec.key_prefix, self._view, self._hidden) if phase == "post" else ()
        disk = None if always else tree  # nothing looks into a tree with links in it
        with around() if any(isinstance(rule, ContentGuardrail) for rule in rules) else nullcontext():
            findings = evaluate(rules, tree.listing, phase=Phase(phase), disk=disk)
        return (*always, *naming_hidden(findings, rules, self._hidden, self._view))

    def detect_changes(self) -> Changes:
        """Find the changes of the function in the tree, as of the last scan."""
        self.changes = detect_changes(self._baseline, self.tree)
        return self.changes

    @property
    def key_prefix(self) -> str:
        """The prefix of the keys of the workspace."""
        return self._spec.key_prefix

    @property
    def reads(self) -> Sequence[str]:
        """The patterns of the files that the function depends on (`WorkspaceSpec.reads`)."""
        return self._spec.reads

    @property
    def tree(self) -> Tree:
        """The last scan."""
        if self._tree is None:
            raise ValueError("the tree has not been scanned")
        return self._tree

    def names(self) -> set[str]:
        """Return all files and directories of the last scan, as keys."""
        prefix = self._spec.key_prefix
        return {prefix + path for path in (*self.tree.files, *self.tree.listing.directories)}

    def check_combined(self, others: Mapping[str, int | None], planned: Collection[str]) -> tuple[str, ...]:
        """Return the post guardrails that the tree violates together with the changes of others, judged by the listing.
        `others` has keys with sizes in bytes, None for removed ones; `planned` are the keys that the task has changed
        itself."""
        prefix = self._spec.key_prefix
        seen = {key: size for key, size in others.items() if self._view.sees(key.removeprefix(prefix))}
        sizes = combined(self.tree.listing.sizes, seen, planned, prefix)
        findings = evaluate(self._spec.post, Listing(sizes), phase=Phase.POST)
        self.unread = tuple(self._unread(seen))
        return tuple(finding.message for finding in findings if not finding.satisfied)

    def _unread(self, others: Collection[str]) -> Iterator[str]:
        prefix = self._spec.key_prefix
        paths = [key.removeprefix(prefix) for key in sorted(others) if key.startswith(prefix)]
        for rule in self._spec.post:
            read = [quoted(path) for path in paths if isinstance(rule, ContentGuardrail) and rule.reads(path)]
            if read:
                yield (
                    f"Post guardrail {rule.brief} has checked the files of this attempt, but not the "
                    f"changes by others in the meantime: {listing(read, 3)}. With reads=[...] such a change is a "
                    f"conflict."
                )

    def uploads(self) -> list[Upload]:
        """Return the files that were added or changed."""
        return [
            Upload(
                key=self._spec.key_prefix + file.path,
                path=self.path / file.path,
                size=file.size,
                checksum=file.checksum,
                content_type=_type_of(file),
                metadata=file.metadata,
                root=self.path,
            )
            for file in (*self.changes.added, *self.changes.changed)
        ]

    def deletions(self) -> list[str]:
        """Return the keys that were removed."""
        return [self._spec.key_prefix + file.path for file in self.changes.removed]

    def to_stage(self, shared: frozenset[str]) -> tuple[list[Upload], list[str]]:
        """Return the files to upload and the keys to delete, apart from those that are `shared` with others."""
        uploads = [upload for upload in self.uploads() if upload.key not in shared]
        return uploads, [key for key in self.deletions() if key not in shared]

    @property
    def is_small(self) -> bool:
        """Whether removing it takes hardly any time."""
        added = self.changes.added
        size = self.total_size + sum(file.size for file in added)
        return self.total_objects + len(added) <= _SMALL and size <= _SMALL_SIZE

    def remove(self) -> str | None:
        """Remove the attempt directory. Return the reason if the removal failed."""
        return None if self._directory is None else self._directory.remove()


def _type_of(file: ChangedFile) -> str:
    """Return the content type to publish: that of the rewritten object, unless it has none."""
    kept = file.content_type or UNKNOWN
    return content_type_of(file.path) if kept == UNKNOWN else kept


@contextmanager
def attempt_directory(
    local: LocalWorkspace | None,
    root: Path,
    delivery: Delivery,
    note: Callable[[str | None], None],
    later: Callable[[CleanUp], None] | None = None,
) -> Iterator[AttemptDirectory]:
    """Provide the attempt directory while the function runs: that of the workspace, or one for a task without, which is
    removed at the end, or by `later` if the function left nothing in it. `note` gets a message about what could not be
    removed, or None.

    Raises:
        DirectoryRefused: as `LocalWorkspace.create`.
    """
    if local is not None:
        yield local.directory
        return
    directory = AttemptDirectory.create(root, delivery, workspace=False)
    try:
        yield directory
    finally:
        if later is not None and directory.is_unused:
            later(directory.remove)
        else:
            note(directory.remove())
