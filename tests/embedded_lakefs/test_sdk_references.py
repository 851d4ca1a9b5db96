"""The official clients on the embedded lakeFS: repositories, branches, tags, history."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

import lakefs
import lakefs_sdk
import pytest
from lakefs.exceptions import ConflictException, ForbiddenException, NotFoundException
from lakefs_sdk.exceptions import BadRequestException


@pytest.fixture
def sdk(client: Any) -> Any:
    """The generated client below the wrapper's."""
    return client.sdk_client


def test_repositories_are_found_by_prefix_and_carry_metadata(client: Any, sdk: Any, repository: Any) -> None:
    assert [found.id for found in lakefs.repositories(client=client, prefix=repository.id)] == [repository.id]
    body = lakefs_sdk.RepositoryMetadataSet(metadata={"team": "data"})
    sdk.internal_api.set_repository_metadata(repository.id, body)
    assert repository.metadata == {"team": "data"}
    sdk.internal_api.delete_repository_metadata(repository.id, lakefs_sdk.RepositoryMetadataKeys(keys=["team"]))
    assert repository.metadata == {}
    repository.delete()
    with pytest.raises(NotFoundException):
        repository.delete()


def test_a_read_only_repository_is_forbidden_to_write_to(client: Any, sdk: Any) -> None:
    body = lakefs_sdk.RepositoryCreation(name="frozen", storage_namespace="local://frozen", read_only=True)
    assert sdk.repositories_api.create_repository(body).read_only
    frozen = lakefs.Repository("frozen", client=client)
    with pytest.raises(ForbiddenException):
        frozen.branch("main").object("a").upload(b"x")
    with pytest.raises(ForbiddenException):
        frozen.branch("b").create("main")


def test_tags_of_the_wrapper(repository: Any) -> None:
    main = repository.branch("main")
    main.object("a").upload(b"1")
    first = main.commit("first")
    tag = repository.tag("v1.0").create(first)
    assert tag.get_commit().id == first.id
    assert [found.id for found in repository.tags()] == ["v1.0"]
    assert [found.path for found in tag.objects()] == ["a"]
    with pytest.raises(ConflictException):
        repository.tag("v1.0").create(first)
    assert repository.tag("v1.0").create(first, exist_ok=True).id == "v1.0"
    tag.delete()
    with pytest.raises(NotFoundException):
        tag.get_commit()


def test_a_transaction_with_a_tag_names_its_commit(repository: Any) -> None:
    with repository.branch("main").transact(commit_message="together", tag="release") as transaction:
        transaction.object("a").upload(b"1")
    assert repository.tag("release").get_commit().id == repository.branch("main").head.id


def test_a_failed_transaction_leaves_nothing_behind(repository: Any) -> None:
    def fail() -> None:
        with repository.branch("main").transact(commit_message="half") as transaction:
            transaction.object("a").upload(b"1")
            raise LookupError("stop")

    with pytest.raises(LookupError):
        fail()
    assert list(repository.branch("main").objects()) == []
    assert [found.id for found in repository.branches()] == ["main"]


def test_changes_are_reset_by_object_by_prefix_and_all(repository: Any) -> None:
    main = repository.branch("main")
    for path in ("a/1", "a/2", "b", "c"):
        main.object(path).upload(b"1")
    main.reset_changes("object", "b")
    assert [found.path for found in main.uncommitted()] == ["a/1", "a/2", "c"]
    main.reset_changes("common_prefix", "a/")
    assert [found.path for found in main.uncommitted()] == ["c"]
    main.reset_changes()
    assert list(main.uncommitted()) == []


def test_refs_with_steps_are_the_commits_before(repository: Any) -> None:
    main = repository.branch("main")
    for number in ("1", "2", "3"):
        main.object("a").upload(number)
        main.commit(number)
    assert repository.ref("main~1").get_commit().message == "2"
    assert repository.ref("main^1~1").object("a").reader(mode="r").read() == "1"
    main.object("a").upload("staged")
    assert repository.ref("main@").object("a").reader(mode="r").read() == "3"
    assert main.object("a").reader(mode="r").read() == "staged"


def test_a_log_is_narrowed_by_path_and_number(repository: Any, sdk: Any) -> None:
    main = repository.branch("main")
    for number, path in enumerate(("a/1", "b/1", "a/2")):
        main.object(path).upload(b"1")
        main.commit(path, date=1_600_000_000 + number)
    assert [found.message for found in main.log(prefixes=["a/"])] == ["a/2", "a/1"]
    assert [found.message for found in main.log(objects=["b/1"])] == ["b/1"]
    assert [found.message for found in main.log(max_amount=1)] == ["a/2"]
    found = sdk.refs_api.log_commits(repository.id, "main~0", limit=True, amount=2)
    assert ([each.message for each in found.results], found.pagination.has_more) == (["a/2", "b/1"], False)


@pytest.mark.parametrize("zone", [None, UTC], ids=str)
def test_a_point_in_time_as_the_client_writes_it_is_refused_as_by_the_real_server(
    repository: Any, sdk: Any, zone: tzinfo | None
) -> None:
    with pytest.raises(BadRequestException, match="since"):
        sdk.refs_api.log_commits(repository.id, "main", since=datetime(2020, 1, 1, tzinfo=zone))


def test_a_diff_is_folded_paged_and_shows_the_right_side(repository: Any, sdk: Any) -> None:
    main = repository.branch("main")
    side = repository.branch("side").create("main")
    for path in ("a/1", "a/2", "b"):
        side.object(path).upload(b"12", content_type="text/x")
    side.commit("m")
    folded = main.diff(side, delimiter="/")
    assert [(found.path, found.type) for found in folded] == [("a/", "prefix_changed"), ("b", "added")]
    assert [found.path for found in main.diff(side, after="a/1", prefix="a/")] == ["a/2"]
    page = sdk.refs_api.diff_refs(repository.id, "main", "side", include_right_stats=True, amount=1)
    assert (page.results[0].right.content_type, page.results[0].size_bytes) == ("text/x", 2)
    assert page.pagination.has_more


def test_commit_overrides_replace_message_and_metadata(repository: Any, sdk: Any) -> None:
    main = repository.branch("main")
    main.object("a").upload(b"1")
    first = main.commit("first", metadata={"k": "v"})
    overrides = lakefs_sdk.CommitOverrides(message="undone", metadata={"why": "test"})
    sdk.branches_api.revert_branch(
        repository.id, "main", lakefs_sdk.RevertCreation(ref=first.id, parent_number=0, commit_overrides=overrides)
    )
    assert (main.get_commit().message, main.get_commit().metadata) == ("undone", {"why": "test"})
    body = lakefs_sdk.CherryPickCreation(ref=first.id, commit_overrides=lakefs_sdk.CommitOverrides(message="again"))
    picked = sdk.branches_api.cherry_pick(repository.id, "main", body)
    assert (picked.message, picked.metadata["k"], picked.metadata["cherry-pick-origin"]) == ("again", "v", first.id)


def test_merge_strategies_decide_conflicts_and_squash_keeps_one_parent(repository: Any, sdk: Any) -> None:
    main = repository.branch("main")
    side = repository.branch("side").create("main")
    for branch in (main, side):
        branch.object("a").upload(branch.id)
        branch.commit(branch.id)
    with pytest.raises(ConflictException):
        side.merge_into(main)
    base = sdk.refs_api.find_merge_base(repository.id, "side", "main").base_commit_id
    assert base == repository.ref("main~1").get_commit().id
    side.merge_into(main, strategy="source-wins", squash_merge=True)
    assert main.object("a").reader(mode="r").read() == "side"
    assert len(main.get_commit().parents) == 1


def test_a_hard_reset_moves_the_branch(repository: Any, sdk: Any) -> None:
    main = repository.branch("main")
    first = main.head.id
    main.object("a").upload(b"1")
    main.commit("m")
    sdk.experimental_api.hard_reset_branch(repository.id, "main", first)
    assert main.head.id == first
