"""Requests at the same time: what is certain although the order is not."""

from __future__ import annotations

from functools import partial

from ..scenario import scenario_with
from .repositories import Repository, repository
from .scenarios_hooks import BASE, publish


@scenario_with(repository)
def one_tag_of_many(repo: Repository) -> None:
    """Of many tags of one name at the same time one is made."""
    repo.rest.race("the same tag", [partial(repo.tag, "v1")] * 8)
    repo.get("/tags")


@scenario_with(repository)
def one_branch_of_many(repo: Repository) -> None:
    """Of many branches of one name at the same time one is made."""
    repo.rest.race("the same branch", [partial(repo.branch, "side")] * 8)
    repo.get("/branches")


@scenario_with(repository)
def one_upload_of_many(repo: Repository) -> None:
    """Of many conditional uploads to one path at the same time one is stored."""
    upload = partial(repo.upload, "lock", "1", headers={"If-None-Match": "*", "Content-Type": "text/plain"})
    repo.rest.race("the same path if there is nothing", [upload] * 8)
    repo.tree()


@scenario_with(repository)
def uploads_to_many_paths(repo: Repository) -> None:
    """Uploads at the same time are all stored."""
    repo.rest.race("other paths", [partial(repo.upload, f"{number}", "1") for number in range(8)])
    repo.tree()
    repo.commit()
    repo.tree("main@")


@scenario_with(repository, BASE)
def one_publisher_of_many(repo: Repository) -> None:
    """Of many fenced merges that name the same head at the same time one passes."""
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({"s": f"{number}"} | {f"{number}": "1"}, f"side-{number}")
    head = repo.head()
    merges = [partial(publish, repo, head, f"side-{number}", strategy="source-wins") for number in range(4)]
    repo.rest.race("other sources on the same head", merges)
    with repo.rest.unnoted():
        parents = [commit["parents"][0] for commit in repo.log(first_parent="true").json["results"][:1]]
    repo.rest.note("the head is built on the head that was named", parents == [head])


@scenario_with(repository, {"a": "0"})
def many_merges_without_a_fence(repo: Repository) -> None:
    """Without a fence merges at the same time all pass, one on top of the other."""
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({f"{number}": f"content {number}"}, f"side-{number}")
    repo.rest.race("other sources", [partial(repo.merge, f"side-{number}") for number in range(4)])
    repo.tree()
    with repo.rest.unnoted():
        merged = repo.log(first_parent="true").json["results"]
    repo.rest.note("commits along first parents", len(merged))
