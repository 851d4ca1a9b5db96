"""The official clients on the embedded lakeFS: the `lakefs` wrapper and `lakefs_sdk`."""

from __future__ import annotations

import csv
import os
from typing import Any

import lakefs
import lakefs_sdk
import pytest
from lakefs.client import Client
from lakefs.exceptions import BadRequestException, ConflictException, NotAuthorizedException, NotFoundException

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


def test_a_transaction_with_a_tag_names_its_commit(repository: Any) -> None:
    with repository.branch("main").transact(commit_message="together", tag="release") as transaction:
        transaction.object("a").upload(b"1")
    assert repository.tag("release").get_commit().id == repository.branch("main").head.id
