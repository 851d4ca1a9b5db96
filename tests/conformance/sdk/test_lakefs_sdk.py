"""Scripts with the calls of the documented examples of the `lakefs` wrapper and of `lakefs_sdk`.

Each runs on the embedded lakeFS, and with `-m live` on the one that PERAGO_CONFORMANCE_LAKEFS names.
"""

from __future__ import annotations

import csv
import json
import os
import urllib.parse
from collections.abc import Iterator
from typing import Any

import lakefs
import pytest
from lakefs.client import Client
from lakefs.exceptions import NotFoundException, ServerException
from lakefs_sdk import models

from .. import targets


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.live)])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The wrapper's client, made as its documentation says."""
    if request.param == "real":
        url = urllib.parse.urlsplit(targets.address("lakefs"))
        yield Client(host=f"{url.scheme}://{url.hostname}:{url.port}", username=url.username, password=url.password)
        return
    with targets.embedded_server("lakefs", real_time=True) as target:
        yield Client(host=target.url.removesuffix("/api/v1"), username=targets.KEY, password=targets.SECRET)


@pytest.fixture
def repository(client: Any) -> Iterator[Any]:
    """A new repository. The script of a notebook begins with it."""
    name = f"sdk-{os.urandom(6).hex()}"
    repository = lakefs.Repository(name, client=client).create(storage_namespace=f"local://{name}")
    yield repository
    repository.delete()
    with pytest.raises(NotFoundException):
        _ = repository.metadata


def paths(changes: Any) -> list[tuple[str, str]]:
    return sorted((change.type, change.path) for change in changes)


def test_a_notebook_publishes_tables_from_a_branch(client: Any, repository: Any) -> None:
    assert repository.id in [listed.id for listed in lakefs.repositories(client=client, prefix="sdk-")]
    assert (repository.properties.default_branch, repository.metadata) == ("main", {})
    main, experiment = repository.branch("main"), repository.branch("experiment").create(source_reference="main")
    assert [branch.id for branch in repository.branches(prefix="exp")] == ["experiment"]

    table = experiment.object("tables/a.csv")
    table.upload(data=b"id,name\n1,one\n", mode="wb", content_type="text/csv", metadata={"using": "python"})
    with experiment.object("tables/b.csv").writer(mode="w", pre_sign=False, content_type="text/csv") as writer:
        csv.writer(writer).writerows([["id"], ["3"]])
    assert list(csv.reader(table.reader(mode="r"))) == [["id", "name"], ["1", "one"]]
    assert (table.stat().content_type, table.stat().metadata, table.stat().size_bytes) == (
        "text/csv",
        {"using": "python"},
        14,
    )
    assert paths(experiment.uncommitted()) == [("added", "tables/a.csv"), ("added", "tables/b.csv")]
    commit = experiment.commit(message="Add tables", metadata={"using": "python"}).get_commit()
    assert (commit.message, commit.metadata) == ("Add tables", {"using": "python"})
    assert paths(experiment.uncommitted()) == []

    assert paths(main.diff(other_ref=experiment)) == [("added", "tables/a.csv"), ("added", "tables/b.csv")]
    assert experiment.merge_into(main) == main.get_commit().id
    assert paths(main.diff(other_ref=experiment)) == []
    assert {entry.path: entry.size_bytes for entry in main.objects()} == {"tables/a.csv": 14, "tables/b.csv": 7}
    assert [(type(entry).__name__, entry.path) for entry in main.objects(delimiter="/")] == [
        ("CommonPrefix", "tables/")
    ]
    assert repository.tag("v1").create("main").get_commit().id == main.get_commit().id
    assert [tag.id for tag in repository.tags()] == ["v1"]
    assert [entry.message for entry in repository.ref("main~1").log(max_amount=1)] == ["Repository created"]
    repository.tag("v1").delete()
    experiment.delete()


def test_changes_are_copied_deleted_reset_and_reverted(repository: Any) -> None:
    main = repository.branch("main")
    for path in ("dir/a", "dir/b", "c"):
        main.object(path).upload(data=path)
    first = main.commit("first")
    main.object("c").copy("main", "dir/d")
    main.delete_objects(["dir/a", "dir/b"])
    assert paths(main.uncommitted()) == [("added", "dir/d"), ("removed", "dir/a"), ("removed", "dir/b")]
    main.reset_changes("object", "dir/a")
    assert paths(main.uncommitted()) == [("added", "dir/d"), ("removed", "dir/b")]
    main.reset_changes("common_prefix", "dir/")
    assert paths(main.uncommitted()) == []
    main.object("c").delete()
    main.commit("second")
    side = repository.branch("side").create(source_reference=first.id)
    assert side.cherry_pick(main.head).message == "second"
    assert not side.object("c").exists()
    main.revert(main.head, parent_number=0)
    assert main.object("c").reader(mode="r").read() == "c"
    assert next(main.log(max_amount=1)).message.startswith("Revert ")


def test_a_transaction_is_merged_only_if_it_succeeds(repository: Any) -> None:
    main = repository.branch("main")
    with main.transact(commit_message="together") as transaction:
        transaction.object("a").upload(data=b"1")
        transaction.object("b").upload(data=b"2")
    assert [entry.path for entry in main.objects()] == ["a", "b"]
    with pytest.raises(TypeError), main.transact(commit_message="half") as transaction:
        transaction.object("c").upload(data=b"3").upload(data=3)
    assert not main.object("c").exists()


def test_the_generated_sdk_makes_the_same_steps(client: Any, repository: Any) -> None:
    sdk, name = client.sdk_client, repository.id
    sdk.branches_api.create_branch(name, models.BranchCreation(name="raw", source="main"))
    assert [branch.id for branch in sdk.branches_api.list_branches(name).results] == ["main", "raw"]
    assert sdk.objects_api.upload_object(name, "raw", "f.txt", content=b"x").path == "f.txt"
    assert [change.path for change in sdk.branches_api.diff_branch(name, "raw").results] == ["f.txt"]
    commit = sdk.commits_api.commit(name, "raw", models.CommitCreation(message="Add a file", metadata={"by": "sdk"}))
    assert (commit.message, commit.metadata) == ("Add a file", {"by": "sdk"})
    assert [change.path for change in sdk.refs_api.diff_refs(name, "main", "raw").results] == ["f.txt"]
    assert sdk.refs_api.find_merge_base(name, "main", "raw").base_commit_id == commit.parents[0]
    assert sdk.refs_api.merge_into_branch(name, "raw", "main").reference
    assert sdk.objects_api.get_object(name, "main", "f.txt") == b"x"
    assert sdk.auth_api.get_current_user().user.id == "admin"
    assert client.storage_config.blockstore_type == "local"


def test_an_import_is_refused_by_name(repository: Any, request: pytest.FixtureRequest) -> None:
    """A local block store refuses imports, too: 403."""
    with pytest.raises(ServerException) as caught:
        repository.branch("main").import_data("import").prefix("s3://elsewhere/data/", "data/").start()
    if request.node.callspec.params["client"] == "embedded":
        assert caught.value.status_code == 501
        assert json.dumps(caught.value.body).startswith('{"message": "importStart')
