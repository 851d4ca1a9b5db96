"""The modelled server's calls about repositories, branches and tags."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from perago.embedded.lakefs import publishing
from perago.embedded.lakefs.errors import Exists, Forbidden, Invalid, LakeFSError, Missing
from perago.embedded.lakefs.names import (
    SHOULD_BE_A_COMMIT,
    check_branch_name,
    check_new_branch_name,
    check_ref,
    check_repository_name,
    check_tag_name,
)
from perago.embedded.lakefs.repository import Branch, Repository
from perago.embedded.lakefs.staging import DEFAULT_CONTENT_TYPE, check_path
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import BranchInfo, Page, RepositoryInfo, TagInfo, page_of

NAMESPACE = "local://"
_SAMPLES = {
    "README.md": b"# Sample data\n\nTwo files, so that there is something to look at.\n",
    "data/lakes.csv": b"name,country,depth_m\nBaikal,Russia,1642\nTanganyika,Tanzania,1470\nCaspian Sea,Iran,1025\n",
}


class RepositoryCalls(ServerState):
    """Create, describe, list and delete repositories."""

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
                self._add_samples(made)
            return info

    def _add_samples(self, repository: Repository) -> None:
        branch = repository.branches[repository.info.default_branch]
        for path, content in _SAMPLES.items():
            blob = self.blobs.of_bytes(content)
            branch.stage(path, self._new_entry(repository, path, blob, DEFAULT_CONTENT_TYPE, {}))
        publishing.commit(repository, branch.name, "Add sample data", {}, self._signature())
        repository.protected = (branch.name,)

    def protected_branches(self, name: str) -> tuple[str, ...]:
        """The patterns of the branches that only merges and reverts write to.

        Raises:
            Missing: no such repository.
        """
        with self._open(name) as repo:
            return repo.protected

    def protect_branches(self, name: str, patterns: Sequence[str]) -> None:
        """Replace those patterns; `*` stands for any text.

        Raises:
            Missing: no such repository.
        """
        with self._open(name) as repo:
            repo.protected = tuple(dict.fromkeys(patterns))

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
        """Describe a repository.

        Raises:
            Missing: there is none.
        """
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
        """Delete a repository. Its namespace stays used.

        Raises:
            Missing: there is none.
            ReadOnly: it is read-only and the call not forced.
        """
        with self._open_to_write(name, force):
            del self._repositories[name]

    def get_metadata(self, name: str) -> Mapping[str, str]:
        """The repository's own metadata.

        Raises:
            Missing: no such repository.
        """
        with self._open(name) as repo:
            return dict(repo.metadata)

    def set_metadata(self, name: str, metadata: Mapping[str, str]) -> None:
        """Add to the repository's metadata. Adding nothing never fails.

        Raises:
            Missing: no such repository.
        """
        if metadata:
            with self._open(name) as repo:
                repo.metadata.update(metadata)

    def delete_metadata(self, name: str, keys: Sequence[str]) -> None:
        """Remove keys from the repository's metadata; missing ones are fine.

        Raises:
            Missing: no such repository.
        """
        with self._open(name) as repo:
            for key in keys:
                repo.metadata.pop(key, None)


class BranchCalls(ServerState):
    """Create, describe, list, reset and delete branches; create, describe, list and delete tags."""

    def create_branch(
        self, repository: str, name: str, source: str, *, hidden: bool = False, force: bool = False
    ) -> BranchInfo:
        """Create a branch at the commit that `source` points at; staged changes are not inherited.

        Raises:
            Missing: unknown repository or source.
            Invalid: a name that lakeFS refuses.
            Exists: the name is that of a branch, of a tag or of a commit.
            ReadOnly: the repository is.
        """
        check_new_branch_name(name)
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
            return branch.info()

    def get_branch(self, repository: str, name: str) -> BranchInfo:
        """Describe a branch.

        Raises:
            Missing: there is none.
            Invalid: it cannot be a branch's name.
        """
        check_branch_name(name)
        with self._open(repository) as repo:
            return repo.branch(name).info()

    def list_branches(
        self, repository: str, *, prefix: str = "", after: str = "", amount: int = -1, show_hidden: bool = False
    ) -> Page[BranchInfo]:
        """One page of branches, by name; hidden ones only on request."""
        with self._open(repository) as repo:
            found = [repo.branches[name].info() for name in sorted(repo.branches) if name > after]
        shown = (info for info in found if info.name.startswith(prefix) and (show_hidden or not info.hidden))
        return page_of(shown, lambda info: info.name, amount)

    def delete_branch(self, repository: str, name: str, *, force: bool = False) -> None:
        """Delete a branch, also a dirty one. Its commits stay readable by id.

        Raises:
            Missing: there is none.
            Forbidden: it is the default branch, or the repository is read-only.
        """
        check_branch_name(name, "name")
        with self._open_to_write(repository, force) as repo:
            if name == repo.info.default_branch:
                raise Forbidden("cannot delete repository default branch")
            repo.branch(name)
            del repo.branches[name]

    def reset_branch(self, repository: str, name: str, *, prefix: str = "", force: bool = False) -> None:
        """Drop what is staged below `prefix`, which is all of it by default.

        Raises:
            Missing: no such branch.
            ReadOnly: the repository is.
        """
        check_branch_name(name)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name)
            repo.check_protection(name)
            branch.unstage(lambda path: path.startswith(prefix))

    def reset_object(self, repository: str, name: str, path: str, *, force: bool = False) -> None:
        """Drop what is staged for one path; nothing staged there is fine.

        Raises:
            Missing: no such branch.
            Invalid: a path that lakeFS refuses.
            ReadOnly: the repository is.
        """
        check_branch_name(name)
        check_path(path)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name, "getting branch: branch not found")
            repo.check_protection(name)
            branch.unstage(lambda staged: staged == path)

    def hard_reset_branch(self, repository: str, name: str, ref: str, *, force: bool = False) -> None:
        """Let a branch point at another commit. What is staged stays staged (`docs/servers/lakefs.md` 2).

        Raises:
            Missing: no such branch or ref.
            Invalid: the ref is not a commit.
            ReadOnly: the repository is.
        """
        check_branch_name(name)
        check_ref(ref)
        with self._open_to_write(repository, force) as repo:
            branch = repo.branch(name)
            repo.check_protection(name, "protected branch")
            try:
                branch.point_at(repo.resolve_commit(ref).commit.id)
            except LakeFSError as error:
                raise error.within(f"hard-reset {name} to {ref}") from None

    # -------------------------------------------------------------------- tags

    def create_tag(self, repository: str, name: str, ref: str, *, force: bool = False) -> TagInfo:
        """Name the commit that `ref` points at. A tag never moves, `force` or not.

        Raises:
            Missing: unknown repository or ref.
            Invalid: a name that lakeFS refuses.
            Exists: the name is that of a tag, of a branch or of a commit.
            ReadOnly: the repository is.
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
            return TagInfo(name, commit_id)

    def get_tag(self, repository: str, name: str) -> TagInfo:
        """Describe a tag.

        Raises:
            Missing: there is none.
            Invalid: it cannot be a tag's name.
        """
        check_tag_name(name)
        with self._open(repository) as repo:
            return TagInfo(name, _tagged(repo, name))

    def list_tags(self, repository: str, *, prefix: str = "", after: str = "", amount: int = -1) -> Page[TagInfo]:
        """One page of tags, by name."""
        with self._open(repository) as repo:
            found = [TagInfo(name, repo.tags[name]) for name in sorted(repo.tags) if name > after]
        return page_of((info for info in found if info.name.startswith(prefix)), lambda info: info.name, amount)

    def delete_tag(self, repository: str, name: str, *, force: bool = False) -> None:
        """Delete a tag.

        Raises:
            Missing: there is none.
            ReadOnly: the repository is.
        """
        check_tag_name(name)
        with self._open_to_write(repository, force) as repo:
            _tagged(repo, name)
            del repo.tags[name]


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
