"""Tags, and taking back what is staged or committed (`docs/servers/lakefs.md` 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.errors import Exists, Invalid, LakeFSError, Missing

from .history import commit, contents


def staged(server: LakeFSServer, branch: str = "main") -> list[tuple[str, str]]:
    return [(found.path, found.type.value) for found in server.diff_branch("repo", branch).results]


# -------------------------------------------------------------------------- tags


def test_a_tag_names_a_commit_and_stays_when_the_branch_moves(server: LakeFSServer) -> None:
    first = commit(server, "main", {"a": "1"})
    server.create_tag("repo", "v1.0", "main")
    commit(server, "main", {"a": "2"})
    assert server.get_tag("repo", "v1.0").commit_id == first
    assert server.get_commit("repo", "v1.0~0").commit.id == first
    assert contents(server, "v1.0") == {"a": "1"}
    assert server.create_branch("repo", "fix", "v1.0").commit_id == first


def test_a_tag_never_moves_not_even_by_force(server: LakeFSServer) -> None:
    server.create_tag("repo", "v1", "main")
    commit(server, "main", {"a": "1"})
    with pytest.raises(Exists, match="tag already exists"):
        server.create_tag("repo", "v1", "main", force=True)


def test_tags_are_listed_by_name_in_pages(server: LakeFSServer) -> None:
    for name in ("v2", "v10", "w", "a"):
        server.create_tag("repo", name, "main")
    page = server.list_tags("repo", prefix="v", amount=1)
    assert ([tag.name for tag in page.results], page.next_offset) == (["v10"], "v10")
    assert [tag.name for tag in server.list_tags("repo", prefix="v", after="v10").results] == ["v2"]


def test_a_deleted_tag_is_gone_and_its_commit_is_not(server: LakeFSServer) -> None:
    first = server.create_tag("repo", "v1", "main").commit_id
    server.delete_tag("repo", "v1")
    with pytest.raises(Missing, match="tag not found"):
        server.delete_tag("repo", "v1")
    assert server.get_commit("repo", first).commit.id == first


@pytest.mark.parametrize("name", ["a b", "a/b", "a..b", "a.", "a.lock", "@", "a@{", "a:b", "a*", "a\\b", "a\x07"])
def test_a_tag_name_that_git_refuses_is_refused(server: LakeFSServer, name: str) -> None:
    with pytest.raises(Invalid, match="tag id: invalid value"):
        server.create_tag("repo", name, "main")


@pytest.mark.parametrize("name", ["v1.0", "-x", "~x", ".x", "é", "x" * 300])
def test_a_tag_name_that_lakefs_takes_is_taken(server: LakeFSServer, name: str) -> None:
    assert server.create_tag("repo", name, "main").name == name


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda s: s.create_tag("repo", "main", "main"), "branch name main: conflict", id="tag as branch"),
        pytest.param(lambda s: s.create_branch("repo", "v1", "main"), "tag ID v1: conflict", id="branch as tag"),
        pytest.param(lambda s: s.create_tag("repo", "v2", "main$"), "should point to a commit", id="staged changes"),
        pytest.param(lambda s: s.put_object("repo", "v1", "a", b""), "branch 'v1' not found", id="writing to a tag"),
        pytest.param(lambda s: s.commit("repo", "v1", "m"), "^branch not found", id="committing to a tag"),
    ],
)
def test_a_tag_is_no_branch_and_shares_no_name_with_one(
    server: LakeFSServer, call: Callable[[LakeFSServer], object], words: str
) -> None:
    server.create_tag("repo", "v1", "main")
    with pytest.raises(LakeFSError, match=words):
        call(server)


# ------------------------------------------------------------------------ resets


@pytest.fixture
def dirty(server: LakeFSServer) -> LakeFSServer:
    """`a/1` changed, `a/2` deleted, `b` added."""
    commit(server, "main", {"a/1": "1", "a/2": "1"})
    server.put_object("repo", "main", "a/1", b"2")
    server.delete_object("repo", "main", "a/2")
    server.put_object("repo", "main", "b", b"1")
    return server


@pytest.mark.parametrize(
    ("reset", "left"),
    [
        pytest.param(lambda s: s.reset_branch("repo", "main"), [], id="all"),
        pytest.param(lambda s: s.reset_branch("repo", "main", prefix="a/"), ["b"], id="below a prefix"),
        pytest.param(lambda s: s.reset_object("repo", "main", "a/2"), ["a/1", "b"], id="one deletion"),
        pytest.param(lambda s: s.reset_object("repo", "main", "nope"), ["a/1", "a/2", "b"], id="nothing there"),
        pytest.param(lambda s: s.reset_branch("repo", "main", prefix="zz"), ["a/1", "a/2", "b"], id="no such prefix"),
    ],
)
def test_a_reset_drops_what_is_staged_and_nothing_else(
    dirty: LakeFSServer, reset: Callable[[LakeFSServer], None], left: list[str]
) -> None:
    head = dirty.get_branch("repo", "main").commit_id
    reset(dirty)
    assert [path for path, _ in staged(dirty)] == left
    assert dirty.get_branch("repo", "main").commit_id == head


def test_reading_a_branch_after_a_reset_shows_the_commit(dirty: LakeFSServer) -> None:
    assert contents(dirty, "main") == {"a/1": "2", "b": "1"}
    dirty.reset_branch("repo", "main")
    assert contents(dirty, "main") == {"a/1": "1", "a/2": "1"}


def test_a_hard_reset_moves_the_head_and_keeps_what_is_staged(dirty: LakeFSServer) -> None:
    first = dirty.get_commit("repo", "main~1").commit.id
    dirty.hard_reset_branch("repo", "main", "main~1")
    assert dirty.get_branch("repo", "main").commit_id == first
    assert staged(dirty) == [("a/1", "added"), ("b", "added")]
    assert contents(dirty, "main") == {"a/1": "2", "b": "1"}
