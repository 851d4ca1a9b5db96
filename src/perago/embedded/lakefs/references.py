"""Branches and tags of a repository.

All functions raise `Missing` for an unknown branch, tag or ref, `Invalid` for a name or ref that lakeFS refuses, and
`ReadOnly` for a write to a read-only repository that is not forced.
"""

from __future__ import annotations

from collections.abc import Iterable

from perago.embedded.lakefs.commits import skip_hooks
from perago.embedded.lakefs.repository import (
    SHOULD_BE_A_COMMIT,
    Repository,
    check_branch_name,
    check_path,
    check_ref,
    check_tag_name,
)
from perago.embedded.lakefs.values import Exists, Forbidden, LakeFSError, Missing, Page, Reference, page_of


def create_branch(repo: Repository, name: str, source: str, *, hidden: bool = False, force: bool = False) -> Reference:
    """Create a branch at the commit that `source` points at; staged changes are not inherited.

    Raises:
        Exists: the name is that of a branch, of a tag or of a commit.
    """
    check_branch_name(name)
    check_ref(source)
    repo.check_writable(force)
    if name in repo.graph:
        raise Exists(f"commit ID {name}: conflict found")
    if name in repo.tags:
        raise Exists(f"tag ID {name}: conflict found")
    context = f"source reference '{source}'"
    try:
        resolved = repo.resolve(source)
    except LakeFSError as error:
        raise error.within(context) from None
    if resolved.explicit_staging:
        raise LakeFSError(f"{context}: can't create a branch without commit")
    if name in repo.branches:
        raise Exists("branch already exists: not unique")
    new_branch = repo.add_branch(name, resolved.commit_id, hidden=hidden)
    skip_hooks(repo, repo.head(new_branch).tree, "create-branch", name, new_branch.commit_id)
    return new_branch.reference()


def get_branch(repo: Repository, name: str) -> Reference:
    """Describe a branch."""
    check_branch_name(name)
    return repo.branch(name).reference()


def list_branches(
    repo: Repository, *, prefix: str = "", after: str = "", amount: int = -1, show_hidden: bool = False
) -> Page[Reference]:
    """Return one page of branches, by name; hidden ones only on request."""
    shown = (branch.reference() for branch in repo.branches.values() if show_hidden or not branch.hidden)
    return _page(shown, prefix, after, amount)


def delete_branch(repo: Repository, name: str, *, force: bool = False) -> None:
    """Delete a branch, also a dirty one. Its commits stay readable by id.

    Raises:
        Forbidden: it is the default branch.
    """
    check_branch_name(name, "name")
    repo.check_writable(force)
    if name == repo.info.default_branch:
        raise Forbidden("cannot delete repository default branch")
    branch = repo.branch(name)
    branch.staged.clear()
    del repo.branches[name]
    skip_hooks(repo, repo.head(branch).tree, "delete-branch", name, branch.commit_id)


def reset_branch(repo: Repository, name: str, *, prefix: str = "", force: bool = False) -> None:
    """Drop what is staged below `prefix`, which is all of it by default."""
    check_branch_name(name)
    repo.check_writable(force)
    branch = repo.branch(name)
    repo.check_protection(name)
    branch.unstage(lambda path: path.startswith(prefix))


def reset_object(repo: Repository, name: str, path: str, *, force: bool = False) -> None:
    """Drop what is staged for one path; nothing staged there is fine."""
    check_branch_name(name)
    check_path(path)
    repo.check_writable(force)
    branch = repo.branch(name, "getting branch: branch not found")
    repo.check_protection(name)
    branch.unstage(lambda staged: staged == path)


def hard_reset_branch(repo: Repository, name: str, ref: str, *, force: bool = False) -> None:
    """Let a branch point at another commit. What is staged stays staged (`docs/dev/servers/lakefs.md`, "REST
    facts")."""
    check_branch_name(name)
    check_ref(ref)
    repo.check_writable(force)
    branch = repo.branch(name)
    repo.check_protection(name, "protected branch")
    repo.move(branch, repo.commit_of(ref, f"hard-reset {name} to {ref}").commit.id, keep_staged=True)


# ------------------------------------------------------------------------------------ tags


def create_tag(repo: Repository, name: str, ref: str, *, force: bool = False) -> Reference:
    """Name the commit that `ref` points at. A tag never moves, `force` or not.

    Raises:
        Exists: the name is that of a tag, of a branch or of a commit.
    """
    check_tag_name(name)
    if name in repo.branches:
        raise Exists(f"branch name {name}: conflict found")
    if name in repo.graph:
        raise Exists(f"commit ID {name}: conflict found")
    target = repo.resolve_commit(ref, SHOULD_BE_A_COMMIT)
    commit_id = target.commit.id
    repo.check_writable(force)
    if name in repo.tags:
        raise Exists("tag already exists: not unique")
    repo.tags[name] = commit_id
    skip_hooks(repo, target.tree, "create-tag", name, commit_id)
    return Reference(name, commit_id)


def get_tag(repo: Repository, name: str) -> Reference:
    """Describe a tag."""
    check_tag_name(name)
    if name not in repo.tags:
        raise Missing("tag not found")
    return Reference(name, repo.tags[name])


def list_tags(repo: Repository, *, prefix: str = "", after: str = "", amount: int = -1) -> Page[Reference]:
    """Return one page of tags, by name."""
    return _page((Reference(name, commit_id) for name, commit_id in repo.tags.items()), prefix, after, amount)


def delete_tag(repo: Repository, name: str, *, force: bool = False) -> None:
    """Delete a tag."""
    check_tag_name(name)
    repo.check_writable(force)
    target = repo.graph[get_tag(repo, name).commit_id]
    del repo.tags[name]
    skip_hooks(repo, target.tree, "delete-tag", name, target.commit.id)


def _page(listed: Iterable[Reference], prefix: str, after: str, amount: int) -> Page[Reference]:
    shown = [reference for reference in listed if reference.name.startswith(prefix) and reference.name > after]
    return page_of(sorted(shown, key=lambda reference: reference.name), lambda reference: reference.name, amount)
