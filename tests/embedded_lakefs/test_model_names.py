"""Repositories, branches and ref expressions (`docs/servers/lakefs.md` 2)."""

from __future__ import annotations

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.errors import Exists, Forbidden, Invalid, LakeFSError, Missing


def put_and_commit(server: LakeFSServer, branch: str, path: str, content: str) -> str:
    server.put_object("repo", branch, path, content.encode())
    return server.commit("repo", branch, f"{path}={content}").commit.id


@pytest.mark.parametrize("name", ["ab", "-abc", "Abc", "a.bc", "a_bc", "a" * 64, ""])
def test_a_repository_name_that_lakefs_refuses_is_refused(server: LakeFSServer, name: str) -> None:
    with pytest.raises(Invalid, match="argument repository: repository id: invalid value"):
        server.create_repository(name)


def test_a_repository_name_is_unique(server: LakeFSServer) -> None:
    with pytest.raises(Exists, match="error creating repository: not unique"):
        server.create_repository("repo", "local://elsewhere")


def test_a_storage_namespace_is_never_used_twice(server: LakeFSServer) -> None:
    server.delete_repository("repo")
    with pytest.raises(Invalid, match="namespace"):
        server.create_repository("other", "local://repo")


def test_a_storage_namespace_has_the_servers_scheme(server: LakeFSServer) -> None:
    with pytest.raises(Invalid, match="invalid namespace"):
        server.create_repository("other", "s3://bucket")


def test_the_default_branch_name_is_not_validated(server: LakeFSServer) -> None:
    assert server.create_repository("other", default_branch="a/b").default_branch == "a/b"


def test_a_new_repository_has_one_commit_without_parents_tree_and_committer(server: LakeFSServer) -> None:
    record = server.get_commit("repo", "main")
    assert (record.commit.message, record.commit.parents, record.commit.meta_range_id, record.commit.committer) == (
        "Repository created",
        (),
        "",
        "",
    )
    assert record.generation == 1


def test_deleting_a_repository_twice_is_not_found(server: LakeFSServer) -> None:
    server.delete_repository("repo")
    with pytest.raises(Missing, match="repository not found"):
        server.delete_repository("repo")


def test_repositories_are_listed_in_pages(server: LakeFSServer) -> None:
    for name in ("aaa", "zzz", "repo-2"):
        server.create_repository(name)
    page = server.list_repositories(amount=2)
    assert ([info.name for info in page.results], page.next_offset, page.has_more) == (["aaa", "repo"], "repo", True)
    rest = server.list_repositories(after=page.next_offset)
    assert ([info.name for info in rest.results], rest.has_more) == (["repo-2", "zzz"], False)
    assert [info.name for info in server.list_repositories(prefix="repo").results] == ["repo", "repo-2"]


@pytest.mark.parametrize("name", ["a.b", "a/b", "-a", "ä", "a b", "a\n"])
def test_a_branch_name_that_lakefs_refuses_is_refused(server: LakeFSServer, name: str) -> None:
    with pytest.raises(Invalid, match="letters, digits, underscores and dashes"):
        server.create_branch("repo", name, "main")


def test_an_empty_branch_name_is_answered_like_a_server_error(server: LakeFSServer) -> None:
    with pytest.raises(LakeFSError, match="required value") as caught:
        server.create_branch("repo", "", "main")
    assert caught.value.status == 500


def test_a_branch_name_has_no_practical_limit_of_length(server: LakeFSServer) -> None:
    server.create_branch("repo", "x" * 5000, "main")


def test_a_branch_name_is_unique(server: LakeFSServer) -> None:
    with pytest.raises(Exists, match="branch already exists: not unique"):
        server.create_branch("repo", "main", "main")


def test_a_branch_cannot_be_called_like_a_commit(server: LakeFSServer) -> None:
    with pytest.raises(Exists):
        server.create_branch("repo", server.get_branch("repo", "main").commit_id, "main")


def test_an_unknown_source_of_a_branch_is_named(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match="source reference 'nope': not found"):
        server.create_branch("repo", "b", "nope")


def test_a_hidden_branch_is_listed_only_on_request(server: LakeFSServer) -> None:
    server.create_branch("repo", "secret", "main", hidden=True)
    assert [info.name for info in server.list_branches("repo").results] == ["main"]
    assert [info.name for info in server.list_branches("repo", show_hidden=True).results] == ["main", "secret"]


def test_the_default_branch_cannot_be_deleted(server: LakeFSServer) -> None:
    with pytest.raises(Forbidden, match="cannot delete repository default branch"):
        server.delete_branch("repo", "main")


def test_a_dirty_branch_can_be_deleted_and_its_commits_stay(server: LakeFSServer) -> None:
    server.create_branch("repo", "b", "main")
    commit = put_and_commit(server, "b", "a", "1")
    server.put_object("repo", "b", "c", b"")
    server.delete_branch("repo", "b")
    assert server.get_commit("repo", commit).commit.id == commit
    with pytest.raises(Missing, match="branch not found"):
        server.get_branch("repo", "b")


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("main", 3),
        ("main@", 3),
        ("main~", 2),
        ("main~1", 2),
        ("main~2", 1),
        ("main~~", 1),
        ("main~0", 3),
        ("main~-1", 3),
        ("main^", 2),
        ("main^0", 3),
        ("main^1", 2),
        ("main~1^1", 1),
        ("side~1", 2),
    ],
)
def test_a_ref_expression_points_at_a_commit(server: LakeFSServer, ref: str, expected: int) -> None:
    commits = {1: put_and_commit(server, "main", "a", "1"), 2: put_and_commit(server, "main", "a", "2")}
    commits[3] = put_and_commit(server, "main", "a", "3")
    server.create_branch("repo", "side", "main")
    assert server.get_commit("repo", ref).commit.id == commits[expected]


def test_a_merge_commit_has_a_second_parent(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit = put_and_commit(server, "side", "a", "1")
    server.merge("repo", "side", "main")
    assert server.get_commit("repo", "main^2").commit.id == commit


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("nope", Missing),
        ("main~99", Missing),
        ("main^2", Invalid),
        ("main^-1", Invalid),
        ("main~x", Invalid),
        ("main@1", Invalid),
        ("main@~1", Invalid),
        ("main$$", Invalid),
        ("main$", Invalid),
        ("", Invalid),
        ("~1", Invalid),
    ],
)
def test_a_ref_that_is_no_commit_is_refused(server: LakeFSServer, ref: str, error: type[LakeFSError]) -> None:
    with pytest.raises(error):
        server.get_commit("repo", ref)


def test_a_commit_id_is_64_lower_case_hex_and_any_unique_prefix_resolves(server: LakeFSServer) -> None:
    commit = put_and_commit(server, "main", "a", "1")
    first = server.get_commit("repo", "main~1").commit.id
    assert len(commit) == 64
    assert set(commit) <= set("0123456789abcdef")
    length = next(n for n in range(1, 65) if commit[:n] != first[:n])
    assert server.get_commit("repo", commit[:length]).commit.id == commit
    with pytest.raises(LakeFSError):
        server.get_commit("repo", commit.upper())


def test_an_ambiguous_prefix_is_not_found(server: LakeFSServer) -> None:
    for number in range(17):
        put_and_commit(server, "main", "a", str(number))
    ids = [record.commit.id for record in server.log("repo", "main")]
    shared = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    with pytest.raises(Missing):
        server.get_commit("repo", shared)


def test_a_branch_called_like_a_short_commit_id_shadows_it(server: LakeFSServer) -> None:
    commit = put_and_commit(server, "main", "a", "1")
    server.create_branch("repo", commit[:8], "main~1")
    assert server.get_commit("repo", commit[:8]).commit.id != commit
    assert server.get_commit("repo", commit).commit.id == commit


def test_a_commit_id_is_that_of_its_contents(clock: VirtualClock, server: LakeFSServer) -> None:
    for name in ("b1", "b2", "b3"):
        server.create_branch("repo", name, "main")
    same = [server.commit("repo", name, "m", allow_empty=True).commit.id for name in ("b1", "b2")]
    clock.advance(1)
    later = server.commit("repo", "b3", "m", allow_empty=True).commit.id
    assert same[0] == same[1] != later
