"""User metadata of objects."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import diverged, repository

TEXT = {"Content-Type": "text/plain"}


@scenario
def names_of_metadata(rest: Rest) -> None:
    """Names of metadata are in lower case, whatever signs they hold."""
    repo = repository(rest)
    headers = TEXT | {"x-lakefs-meta-A.B_c-D": "1", "X-LAKEFS-META-UPPER": "2", "x-lakefs-meta-1": "3"}
    repo.upload("a", headers=headers)


@scenario
def values_of_metadata(rest: Rest) -> None:
    """Values of metadata are kept but for the blanks around them."""
    repo = repository(rest)
    headers = TEXT | {"x-lakefs-meta-a": "  Two  Words ", "x-lakefs-meta-b": "", "x-lakefs-meta-c": '"q" = ,;'}
    repo.upload("a", headers=headers)
    repo.stat("a")


@scenario
def a_name_of_nothing(rest: Rest) -> None:
    """The bare prefix is a name, too."""
    repo = repository(rest)
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-": "v"})


@scenario
def metadata_is_committed_and_merged(rest: Rest) -> None:
    """Metadata goes with the object through commits and merges."""
    repo = diverged(rest, {"a": "1"})
    with rest.unnoted():
        repo.upload("b", "1", "side", headers=TEXT | {"x-lakefs-meta-k": "v"})
        repo.commit("side")
        repo.merge("side")
    repo.stat("b", "main")
    repo.tree("main")


@scenario
def metadata_decides_a_conflict(rest: Rest) -> None:
    """Both sides set other metadata of one content: a conflict."""
    repo = diverged(rest, {"a": "1"})
    with rest.unnoted():
        for branch in ("main", "side"):
            repo.upload("a", "1", branch, headers=TEXT | {"x-lakefs-meta-by": branch})
            repo.commit(branch)
    repo.diff("main", "side")
    repo.merge()


@scenario
def metadata_in_a_listing(rest: Rest) -> None:
    """A listing leaves metadata out where there is none."""
    repo = repository(rest, {"without": "1"})
    with rest.unnoted():
        repo.upload("with", "1", headers=TEXT | {"x-lakefs-meta-k": "v"})
    repo.tree()
    repo.tree(user_metadata="true")
    repo.tree(user_metadata="false")
    repo.stat("without")
    repo.stat("with", user_metadata="false")


@scenario
def metadata_is_replaced_later(rest: Rest) -> None:
    """Setting metadata replaces all of it and keeps content, type and address."""
    repo = repository(rest)
    repo.upload("a", "1", headers=TEXT | {"x-lakefs-meta-old": "v"})
    where = "/branches/main/objects/stat/user_metadata"
    repo.call("PUT", where, query={"path": "a"}, json={"set": {"New": "w"}})
    repo.stat("a")
    repo.call("PUT", where, query={"path": "a"}, json={"set": {}})
    repo.stat("a")
    repo.call("PUT", where, query={"path": "a"}, json={})


@scenario
def metadata_of_any_script(rest: Rest) -> None:
    """Values of metadata are read as UTF-8."""
    repo = repository(rest)
    value = "日本 ä".encode().decode("latin-1")
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-k": value})
    repo.stat("a")


@scenario
def metadata_of_a_commit_is_apart(rest: Rest) -> None:
    """A commit's metadata is none of its objects', and the other way round."""
    repo = repository(rest)
    repo.upload("a", headers=TEXT | {"x-lakefs-meta-object": "1"})
    repo.commit(metadata={"commit": "2"})
    repo.stat("a")
    repo.show("main")
