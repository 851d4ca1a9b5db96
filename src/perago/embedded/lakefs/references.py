"""The modelled server's calls about branches and tags."""

from __future__ import annotations

from collections.abc import Iterable

from perago.embedded.lakefs.errors import Exists, Forbidden, LakeFSError, Missing
from perago.embedded.lakefs.names import (
    SHOULD_BE_A_COMMIT,
    check_branch_name,
    check_path,
    check_ref,
    check_tag_name,
)
from perago.embedded.lakefs.repository import Branch, Repository
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import Page, Reference, page_of


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
