"""Requests at the same time: what is certain although the order is not."""

from __future__ import annotations

from functools import partial

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository
from .scenarios_hooks import BASE, publish


@scenario
def one_tag_of_many(rest: Rest) -> None:
    """Of many tags of one name at the same time one is made."""
    repo = repository(rest)
    rest.race("the same tag", [partial(repo.tag, "v1")] * 8)
    repo.get("/tags")


@scenario
def one_branch_of_many(rest: Rest) -> None:
    """Of many branches of one name at the same time one is made."""
    repo = repository(rest)
    rest.race("the same branch", [partial(repo.branch, "side")] * 8)
    repo.get("/branches")


@scenario
def one_upload_of_many(rest: Rest) -> None:
    """Of many conditional uploads to one path at the same time one is stored."""
    repo = repository(rest)
    upload = partial(repo.upload, "lock", "1", headers={"If-None-Match": "*", "Content-Type": "text/plain"})
    rest.race("the same path if there is nothing", [upload] * 8)
    repo.tree()


@scenario
def uploads_to_many_paths(rest: Rest) -> None:
    """Uploads at the same time are all stored."""
    repo = repository(rest)
    rest.race("other paths", [partial(repo.upload, f"{number}", "1") for number in range(8)])
    repo.tree()
    repo.commit()
    repo.tree("main@")


@scenario
def one_publisher_of_many(rest: Rest) -> None:
    """Of many fenced merges that name the same head at the same time one passes."""
    repo = repository(rest, BASE)
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({"s": f"{number}"} | {f"{number}": "1"}, f"side-{number}")
    head = repo.head()
    merges = [partial(publish, repo, head, f"side-{number}", strategy="source-wins") for number in range(4)]
    rest.race("other sources on the same head", merges)
    with rest.unnoted():
        parents = [commit["parents"][0] for commit in repo.log(first_parent="true").json["results"][:1]]
    rest.note("the head is built on the head that was named", parents == [head])


@scenario
def many_merges_without_a_fence(rest: Rest) -> None:
    """Without a fence merges at the same time all pass, one on top of the other."""
    repo = repository(rest, {"a": "0"})
    for number in range(4):
        repo.add_branch(f"side-{number}")
        repo.commit_files({f"{number}": f"content {number}"}, f"side-{number}")
    rest.race("other sources", [partial(repo.merge, f"side-{number}") for number in range(4)])
    repo.tree()
    with rest.unnoted():
        merged = repo.log(first_parent="true").json["results"]
    rest.note("commits along first parents", len(merged))
