"""The official clients on the embedded lakeFS: the `lakefs` wrapper and `lakefs_sdk`."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import lakefs
import lakefs_sdk
import pytest
from lakefs.client import Client
from lakefs.exceptions import BadRequestException, ConflictException, NotAuthorizedException, NotFoundException
from lakefs_sdk.exceptions import ApiException

from perago.attempt.publication import FENCE_PATH
from perago.embedded.lakefs.values import SPOOL_THRESHOLD


@pytest.fixture
def sdk(client: Any) -> Any:
    """The generated client below the wrapper's."""
    return client.sdk_client


def test_the_wrapper_supports_a_complete_publication(repository: Any) -> None:
    main = repository.branch("main")
    main.object("in/a.csv").upload(b"x,y\n", content_type="text/csv", metadata={"owner": "me"})
    head = main.commit("input", metadata={"k": "v"})
    staging = repository.branch("staging").create(source_reference=head.id, hidden=True)
    staging.object("out/b.csv").upload("result")
    staging.object("in/a.csv").delete()
    staged = staging.commit("publish")
    assert sorted((found.type, found.path) for found in main.diff(staging)) == [
        ("added", "out/b.csv"),
        ("removed", "in/a.csv"),
    ]
    merged = repository.ref(staged.id).merge_into(main, message="publish", metadata={"m": "1"})
    staging.delete()
    assert main.head.id == merged
    commit = main.get_commit()
    assert commit.parents == [head.id, staged.id]
    assert commit.metadata == {".lakefs.merge.strategy": "default", "m": "1"}
    assert [found.message for found in main.log(first_parent=True)] == ["publish", "input", "Repository created"]
    assert [found.path for found in repository.ref(merged).objects()] == ["out/b.csv"]


def test_the_wrapper_reads_and_writes_large_objects_in_pieces(repository: Any) -> None:
    content = os.urandom(SPOOL_THRESHOLD * 2 + 5)
    stored = repository.branch("main").object("dir/big")
    with stored.writer(mode="wb", content_type="application/x-test") as writer:
        for start in range(0, len(content), 400_000):
            writer.write(content[start : start + 400_000])
    assert stored.exists()
    stat = stored.stat()
    assert (stat.size_bytes, stat.content_type) == (len(content), "application/x-test")
    with stored.reader(mode="rb") as reader:
        assert reader.read(10) == content[:10]
        reader.seek(SPOOL_THRESHOLD)
        assert reader.read(10) == content[SPOOL_THRESHOLD : SPOOL_THRESHOLD + 10]
    with stored.reader(mode="rb") as reader:
        assert reader.read() == content


def test_an_exclusive_write_of_the_wrapper_refuses_an_existing_object(repository: Any) -> None:
    stored = repository.branch("main").object("a")
    stored.upload(b"x", mode="xb")
    with pytest.raises(lakefs.exceptions.ObjectExistsException):
        stored.upload(b"y", mode="xb")


def test_the_wrappers_exceptions_are_those_of_the_real_server(client: Any, url: str, repository: Any) -> None:
    main = repository.branch("main")
    with pytest.raises(NotFoundException):
        repository.branch("nope").get_commit()
    with pytest.raises(lakefs.exceptions.ObjectNotFoundException):
        main.object("nope").reader().read()
    with pytest.raises(ConflictException):
        repository.branch("main").create(source_reference="main")
    with pytest.raises(BadRequestException):
        main.commit("nothing")
    with pytest.raises(NotAuthorizedException):
        lakefs.Repository("x", client=Client(host=url, username="key", password="wrong")).metadata  # noqa: B018
    assert repository.branch("main").create(source_reference="main", exist_ok=True).id == "main"


def test_a_merge_that_the_fence_refuses_is_a_plain_server_exception(repository: Any) -> None:
    side = repository.branch("side").create(source_reference="main")
    side.object(FENCE_PATH).upload(b"fence")
    side.commit("fence")
    with pytest.raises(lakefs.exceptions.ServerException, match="pre-merge hook aborted") as caught:
        side.merge_into("main", metadata={"perago.expected_head": "0" * 64})
    assert caught.value.status_code == 412


def test_reverts_and_cherry_picks_of_the_wrapper(repository: Any) -> None:
    main = repository.branch("main")
    main.object("a").upload(b"1")
    first = main.commit("first")
    undone = main.revert(first.id)
    assert undone.parents == [first.id]
    assert main.cherry_pick(first.id).metadata["cherry-pick-origin"] == first.id


def test_the_low_level_sdk_reads_the_expected_values(url: str, repository: Any) -> None:
    with lakefs_sdk.ApiClient(lakefs_sdk.Configuration(host=f"{url}/api/v1", username="key", password="secret")) as api:
        assert lakefs_sdk.ConfigApi(api).get_config().version_config.version == "1.84.0"
        assert lakefs_sdk.HealthCheckApi(api).health_check() is None
        branches = lakefs_sdk.BranchesApi(api)
        creation = lakefs_sdk.BranchCreation(name="low", source="main", hidden=True)
        commit_id = branches.create_branch(repository.id, creation)
        assert branches.get_branch(repository.id, "low").commit_id == commit_id
        commits = lakefs_sdk.CommitsApi(api)
        made = commits.commit(repository.id, "low", lakefs_sdk.CommitCreation(message="m", allow_empty=True, date=7))
        assert (made.creation_date, made.parents) == (7, [commit_id])
        refs = lakefs_sdk.RefsApi(api)
        assert refs.merge_into_branch(repository.id, "low", "main").reference
        with pytest.raises(lakefs_sdk.ApiException) as caught:
            refs.merge_into_branch(repository.id, "low", "main")
        assert caught.value.status == 400
        log = refs.log_commits(repository.id, "low", first_parent=True, amount=1)
        assert (log.results[0].id, log.pagination.has_more) == (made.id, True)


def test_the_generated_client_uploads_files_as_forms(repository: Any, sdk: Any, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"x,y\n" * 1000)
    stats = sdk.objects_api.upload_object(repository.id, "main", "in/table.csv", content=str(path))
    assert (stats.size_bytes, stats.content_type) == (4000, "text/csv")
    assert bytes(sdk.objects_api.get_object(repository.id, "main", "in/table.csv")) == path.read_bytes()
    with pytest.raises(ApiException) as caught:
        sdk.objects_api.upload_object(repository.id, "main", "in/table.csv", content=str(path), if_none_match="*")
    assert caught.value.status == 412


def test_readers_and_writers_work_as_files_for_text_and_for_libraries(repository: Any) -> None:
    stored = repository.branch("main").object("rows.csv")
    with stored.writer(mode="w", content_type="text/csv") as file:
        csv.writer(file).writerows([["a", 1], ["b", 2]])
    with stored.reader(mode="r") as file:
        assert list(csv.reader(file)) == [["a", "1"], ["b", "2"]]
    with stored.reader(mode="r", pre_sign=False) as file:
        assert file.readline() == "a,1\r\n"
    with stored.reader(mode="rb") as file:
        file.seek(-3, 2)
        assert file.read() == b"2\r\n"


def test_a_presigned_transfer_is_refused_as_by_a_local_store(repository: Any) -> None:
    stored = repository.branch("main").object("a").upload(b"1", pre_sign=None)
    with pytest.raises(BadRequestException, match="presigned URL: operation not supported"):
        stored.reader(pre_sign=True).read()


def test_user_metadata_is_stored_shown_and_replaced(repository: Any, sdk: Any) -> None:
    stored = repository.branch("main").object("a").upload(b"1", metadata={"Owner": "me"})
    assert stored.stat().metadata == {"owner": "me"}
    body = lakefs_sdk.UpdateObjectUserMetadata(set={"owner": "you"})
    client = lakefs_sdk.ExperimentalApi(sdk.objects_api.api_client)
    client.update_object_user_metadata(repository.id, "main", "a", body)
    assert repository.branch("main").object("a").stat().metadata == {"owner": "you"}
    assert sdk.objects_api.stat_object(repository.id, "main", "a", user_metadata=False).metadata == {}


def test_listings_are_paged_folded_and_narrowed(repository: Any) -> None:
    main = repository.branch("main")
    for path in ("a", "a-", "a/1", "a/2", "b/x"):
        main.object(path).upload(b"1")
    assert [found.path for found in main.objects(delimiter="/")] == ["a", "a-", "a/", "b/"]
    assert [found.path for found in main.objects(prefix="a/", after="a/1")] == ["a/2"]
    assert [found.path for found in main.objects(max_amount=2)] == ["a", "a-"]


def test_at_most_a_thousand_objects_are_deleted_with_one_call(repository: Any) -> None:
    main = repository.branch("main")
    main.object("kept").upload(b"1")
    main.object("d/1").upload(b"1")
    paths = [f"d/{number}" for number in range(1000)]
    main.delete_objects(paths)
    assert [found.path for found in main.objects()] == ["kept"]
    with pytest.raises(BadRequestException, match="max paths is set to 1000"):
        main.delete_objects([*paths, "one more"])


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


@pytest.mark.parametrize("zone", [None, UTC], ids=str)
def test_the_time_format_of_the_client_is_refused_as_by_the_real_server(
    repository: Any, sdk: Any, zone: tzinfo | None
) -> None:
    with pytest.raises(ApiException, match="since"):
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
