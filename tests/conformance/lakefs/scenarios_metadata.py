"""User metadata of objects."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, diverged, repository

TEXT = {"Content-Type": "text/plain"}


@scenario_with(repository)
def names_of_metadata(repo: Repository) -> None:
    """Names of metadata are in lower case, whatever signs they hold."""
    headers = TEXT | {"x-lakefs-meta-A.B_c-D": "1", "X-LAKEFS-META-UPPER": "2", "x-lakefs-meta-1": "3"}
    repo.upload("a", headers=headers)


@scenario_with(repository)
def values_of_metadata(repo: Repository) -> None:
    """Values of metadata are kept but for the blanks around them."""
    headers = TEXT | {"x-lakefs-meta-a": "  Two  Words ", "x-lakefs-meta-b": "", "x-lakefs-meta-c": '"q" = ,;'}
    repo.upload("a", headers=headers)
    repo.stat("a")


@scenario_with(repository)
def a_name_of_nothing(repo: Repository) -> None:
    """The bare prefix is a name, too."""
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-": "v"})


@scenario_with(diverged, {"a": "1"})
def metadata_is_committed_and_merged(repo: Repository) -> None:
    """Metadata goes with the object through commits and merges."""
    with repo.rest.unnoted():
        repo.upload("b", "1", "side", headers=TEXT | {"x-lakefs-meta-k": "v"})
        repo.commit("side")
        repo.merge("side")
    repo.stat("b", "main")
    repo.tree("main")


@scenario_with(diverged, {"a": "1"})
def metadata_decides_a_conflict(repo: Repository) -> None:
    """Both sides set other metadata of one content: a conflict."""
    with repo.rest.unnoted():
        for branch in ("main", "side"):
            repo.upload("a", "1", branch, headers=TEXT | {"x-lakefs-meta-by": branch})
            repo.commit(branch)
    repo.diff("main", "side")
    repo.merge()


@scenario_with(repository, {"without": "1"})
def metadata_in_a_listing(repo: Repository) -> None:
    """A listing leaves metadata out where there is none."""
    with repo.rest.unnoted():
        repo.upload("with", "1", headers=TEXT | {"x-lakefs-meta-k": "v"})
    repo.tree()
    repo.tree(user_metadata="true")
    repo.tree(user_metadata="false")
    repo.stat("without")
    repo.stat("with", user_metadata="false")


@scenario_with(repository)
def metadata_is_replaced_later(repo: Repository) -> None:
    """Setting metadata replaces all of it and keeps content, type and address."""
    repo.upload("a", "1", headers=TEXT | {"x-lakefs-meta-old": "v"})
    where = "/branches/main/objects/stat/user_metadata"
    repo.call("PUT", where, query={"path": "a"}, json={"set": {"New": "w"}})
    repo.stat("a")
    repo.call("PUT", where, query={"path": "a"}, json={"set": {}})
    repo.stat("a")
    repo.call("PUT", where, query={"path": "a"}, json={})


@scenario_with(repository)
def metadata_of_any_script(repo: Repository) -> None:
    """Values of metadata are read as UTF-8."""
    value = "日本 ä".encode().decode("latin-1")
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-k": value})
    repo.stat("a")


@scenario_with(repository)
def metadata_of_a_commit_is_apart(repo: Repository) -> None:
    """A commit's metadata is none of its objects', and the other way round."""
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-object": "1"})
    repo.commit(metadata={"commit": "2"})
    repo.stat("a")
    repo.show("main")
