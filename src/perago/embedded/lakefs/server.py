"""The modelled server: repositories, branches and tags under one lock.

Each method answers as lakeFS 1.84 does (`docs/servers/lakefs.md` 2 and 3) or raises a `LakeFSError` that carries the
real status and words. What lakeFS has and this class does not (imports, branch protection, garbage collection, other
hooks than pre-merge, ...) is not modelled.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from perago.attempt.publication import FENCE_PATH
from perago.embedded.lakefs.commits import ComparingCalls, PublishingCalls
from perago.embedded.lakefs.hooks import HeadFence, PreMergeHook
from perago.embedded.lakefs.objects import ObjectCalls
from perago.embedded.lakefs.repository import (
    SHOULD_BE_A_COMMIT,
    Branch,
    Repository,
    check_branch_name,
    check_path,
    check_ref,
    check_repository_name,
    check_tag_name,
)
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import (
    Exists,
    Forbidden,
    Invalid,
    LakeFSError,
    Missing,
    Page,
    Reference,
    RepositoryInfo,
    page_of,
)
from perago.ports import Clock


class ReferenceCalls(ServerState):
    """Create, describe, list, reset and delete branches; create, describe, list and delete tags.

    All raise `Missing` for an unknown repository, branch, tag or ref, `Invalid` for a name or ref that lakeFS refuses,
    and `ReadOnly` for a write to a read-only repository that is not forced.
    """

    def create_branch(
        self, repository: str, name: str, source: str, *, hidden: bool = False, force: bool = False
    ) -> Reference:
        """Create a branch at the commit that `source` points at; staged changes are not inherited.

        Raises:
            Exists: the name is that of a branch, of a tag or of a commit.
        """
        check_branch_name(name)
        check_ref(source)
        with self._open_to_write(repository, force) as repo:
            if name in repo.graph:
                raise Exists(f"commit ID {name}: conflict found")
            if name in repo.tags:
                raise Exists(f"tag ID {name}: conflict found")
            commit_id = _source(repo, source)
            if name in repo.branches:
                raise Exists("branch already exists: not unique")
            branch = repo.branches[name] = Branch(name, commit_id, hidden)
            return branch.reference()

    def get_branch(self, repository: str, name: str) -> Reference:
        """Describe a branch."""
        check_branch_name(name)
        with self._open(repository) as repo:
            return repo.branch(name).reference()

    def list_branches(
        self, repository: str, *, prefix: str = "", after: str = "", amount: int = -1, show_hidden: bool = False
    ) -> Page[Reference]:
        """One page of branches, by name; hidden ones only on request."""
        with self._open(repository) as repo:
            found = [branch.reference() for branch in repo.branches.values() if show_hidden or not branch.hidden]
        return _page(found, prefix, after, amount)

    def delete_branch(self, repository: str, name: str, *, force: bool = False) -> None:
        """Delete a branch, also a dirty one. Its commits stay readable by id.

        Raises:
            Forbidden: it is the default branch.
        """
        check_branch_name(name, "name")
        with self._open_to_write(repository, force) as repo:
            if name == repo.info.default_branch:
                raise Forbidden("cannot delete repository default branch")
            repo.branch(name)
            del repo.branches[name]

    def reset_branch(self, repository: str, name: str, *, prefix: str = "", force: bool = False) -> None:
        """Drop what is staged below `prefix`, which is all of it by default."""
        check_branch_name(name)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name)
            repo.check_protection(name)
            branch.unstage(lambda path: path.startswith(prefix))

    def reset_object(self, repository: str, name: str, path: str, *, force: bool = False) -> None:
        """Drop what is staged for one path; nothing staged there is fine."""
        check_branch_name(name)
        check_path(path)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name, "getting branch: branch not found")
            repo.check_protection(name)
            branch.unstage(lambda staged: staged == path)

    def hard_reset_branch(self, repository: str, name: str, ref: str, *, force: bool = False) -> None:
        """Let a branch point at another commit. What is staged stays staged (`docs/servers/lakefs.md` 2)."""
        check_branch_name(name)
        check_ref(ref)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name)
            repo.check_protection(name, "protected branch")
            branch.point_at(repo.commit_of(ref, f"hard-reset {name} to {ref}").commit.id)

    # -------------------------------------------------------------------- tags

    def create_tag(self, repository: str, name: str, ref: str, *, force: bool = False) -> Reference:
        """Name the commit that `ref` points at. A tag never moves, `force` or not.

        Raises:
            Exists: the name is that of a tag, of a branch or of a commit.
        """
        check_tag_name(name)
        with self._open(repository) as repo:
            if name in repo.branches:
                raise Exists(f"branch name {name}: conflict found")
            if name in repo.graph:
                raise Exists(f"commit ID {name}: conflict found")
            commit_id = repo.resolve_commit(ref, SHOULD_BE_A_COMMIT).commit.id
        with self._open_to_write(repository, force) as repo:
            if name in repo.tags:
                raise Exists("tag already exists: not unique")
            repo.tags[name] = commit_id
            return Reference(name, commit_id)

    def get_tag(self, repository: str, name: str) -> Reference:
        """Describe a tag."""
        check_tag_name(name)
        with self._open(repository) as repo:
            return Reference(name, _tagged(repo, name))

    def list_tags(self, repository: str, *, prefix: str = "", after: str = "", amount: int = -1) -> Page[Reference]:
        """One page of tags, by name."""
        with self._open(repository) as repo:
            found = [Reference(name, commit_id) for name, commit_id in repo.tags.items()]
        return _page(found, prefix, after, amount)

    def delete_tag(self, repository: str, name: str, *, force: bool = False) -> None:
        """Delete a tag."""
        check_tag_name(name)
        with self._open_to_write(repository, force) as repo:
            _tagged(repo, name)
            del repo.tags[name]


def _page(found: Iterable[Reference], prefix: str, after: str, amount: int) -> Page[Reference]:
    shown = sorted((each for each in found if each.name.startswith(prefix) and each.name > after), key=_name)
    return page_of(shown, _name, amount)


def _name(reference: Reference) -> str:
    return reference.name


def _tagged(repository: Repository, name: str) -> str:
    try:
        return repository.tags[name]
    except KeyError:
        raise Missing("tag not found") from None


def _source(repository: Repository, ref: str) -> str:
    words = f"source reference '{ref}'"
    try:
        resolved = repository.resolve(ref)
    except LakeFSError as error:
        raise error.within(words) from None
    if resolved.explicit_staging:
        raise LakeFSError(f"{words}: can't create a branch without commit")
    return resolved.commit_id


NAMESPACE = "local://"
_SAMPLES = {
    "README.md": b"# Sample data\n\nTwo files, so that there is something to look at.\n",
    "data/lakes.csv": b"name,country,depth_m\nBaikal,Russia,1642\nTanganyika,Tanzania,1470\nCaspian Sea,Iran,1025\n",
}


class RepositoryCalls(ObjectCalls, PublishingCalls):
    """Create, describe, list and delete repositories. Calls with the name of an unknown one raise `Missing`."""

    def create_repository(
        self,
        name: str,
        storage_namespace: str | None = None,
        *,
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
        sample_data: bool = False,
    ) -> RepositoryInfo:
        """Create a repository with one empty commit on its default branch; a `bare` one has neither.

        With `sample_data` there is a second commit with two files, and the default branch is protected.

        Raises:
            Invalid: a name or namespace that lakeFS refuses, or a namespace that has been used before (which is not
                looked at for a bare or read-only repository).
            Exists: the name is taken.
        """
        namespace = storage_namespace or f"{NAMESPACE}{name}"
        check_repository_name(name)
        with self._lock:
            if name in self._repositories:
                raise Exists("error creating repository: not unique")
            if not namespace.startswith(NAMESPACE):
                raise Invalid(f"failed to match required regex ^{NAMESPACE}: invalid namespace")
            if not (bare or read_only):
                self._take(namespace)
            info = RepositoryInfo(name, namespace, default_branch or "main", self._now(), read_only)
            made = self._repositories[name] = Repository(info, bare=bare)
            if sample_data and not bare:
                for path, content in _SAMPLES.items():
                    self.put_object(name, info.default_branch, path, content, force=True)
                self.commit(name, info.default_branch, "Add sample data", force=True)
                made.protected = (info.default_branch,)
            return info

    def _take(self, namespace: str) -> None:
        place = posixpath.normpath(namespace.removeprefix(NAMESPACE).lstrip("/"))
        if place.split("/")[0] in (".", ".."):
            raise Invalid("failed to create repository: failed to access storage")
        if f"{NAMESPACE}{place}" in self._namespaces:
            raise Invalid(
                f"failed to create repository: found lakeFS objects in the storage (:{namespace}) key(_lakefs/dummy): "
                "storage namespace already in use"
            )
        self._namespaces.add(f"{NAMESPACE}{place}")

    def get_repository(self, name: str) -> RepositoryInfo:
        """Describe a repository."""
        return self._repository(name).info

    def list_repositories(
        self, *, prefix: str = "", after: str = "", search: str = "", amount: int = -1
    ) -> Page[RepositoryInfo]:
        """One page of repositories, by name; `search` is any part of the name."""
        with self._lock:
            found = [self._repositories[name].info for name in sorted(self._repositories) if name > after]
        shown = (info for info in found if info.name.startswith(prefix) and search in info.name)
        return page_of(shown, lambda info: info.name, amount)

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Delete a repository; a read-only one only with `force`. Its namespace stays used."""
        with self._open_to_write(name, force):
            del self._repositories[name]

    def get_metadata(self, name: str) -> Mapping[str, str]:
        """The repository's own metadata."""
        with self._open(name) as repo:
            return dict(repo.metadata)

    def set_metadata(self, name: str, metadata: Mapping[str, str]) -> None:
        """Add to the repository's metadata. Adding nothing never fails, however unknown the repository."""
        if metadata:
            with self._open(name) as repo:
                repo.metadata.update(metadata)

    def delete_metadata(self, name: str, keys: Sequence[str]) -> None:
        """Remove keys from the repository's metadata; missing ones are fine."""
        with self._open(name) as repo:
            for key in keys:
                repo.metadata.pop(key, None)

    def protected_branches(self, name: str) -> tuple[str, ...]:
        """The patterns of the branches that only merges and reverts write to."""
        with self._open(name) as repo:
            return repo.protected

    def protect_branches(self, name: str, patterns: Sequence[str]) -> None:
        """Replace those patterns; `*` stands for any text."""
        with self._open(name) as repo:
            repo.protected = tuple(dict.fromkeys(patterns))


class LakeFSServer(RepositoryCalls, ReferenceCalls, ObjectCalls, ComparingCalls, PublishingCalls):
    """All repositories of one server. Thread-safe."""

    def __init__(
        self, clock: Clock, *, committer: str = "admin", hooks: Mapping[str, PreMergeHook] | None = None
    ) -> None:
        known = {FENCE_PATH: HeadFence()} if hooks is None else hooks
        super().__init__(clock, committer=committer, hooks=known)
