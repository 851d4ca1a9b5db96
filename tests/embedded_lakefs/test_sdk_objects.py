"""The official clients on the embedded lakeFS: objects and their bytes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lakefs_sdk
import pytest
from lakefs.exceptions import BadRequestException, NotFoundException
from lakefs_sdk.exceptions import ApiException


@pytest.fixture
def objects(client: Any) -> Any:
    """The generated client's calls about objects."""
    return client.sdk_client.objects_api


def test_the_generated_client_uploads_files_as_forms(repository: Any, objects: Any, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"x,y\n" * 1000)
    stats = objects.upload_object(repository.id, "main", "in/table.csv", content=str(path))
    assert (stats.size_bytes, stats.content_type) == (4000, "text/csv")
    assert bytes(objects.get_object(repository.id, "main", "in/table.csv")) == path.read_bytes()
    with pytest.raises(ApiException) as caught:
        objects.upload_object(repository.id, "main", "in/table.csv", content=str(path), if_none_match="*")
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


def test_user_metadata_is_stored_shown_and_replaced(repository: Any, objects: Any) -> None:
    stored = repository.branch("main").object("a").upload(b"1", metadata={"Owner": "me"})
    assert stored.stat().metadata == {"owner": "me"}
    body = lakefs_sdk.UpdateObjectUserMetadata(set={"owner": "you"})
    client = lakefs_sdk.ExperimentalApi(objects.api_client)
    client.update_object_user_metadata(repository.id, "main", "a", body)
    assert repository.branch("main").object("a").stat().metadata == {"owner": "you"}
    assert objects.stat_object(repository.id, "main", "a", user_metadata=False).metadata == {}


def test_a_copy_has_type_metadata_and_bytes_of_its_own(repository: Any, objects: Any) -> None:
    main = repository.branch("main")
    original = main.object("a").upload(b"1", content_type="text/x", metadata={"k": "v"})
    main.commit("m")
    copy = repository.ref("main@").object("a").copy("main", "b")
    assert (copy.stat().content_type, copy.stat().metadata) == ("text/x", {"k": "v"})
    assert copy.stat().physical_address != original.stat().physical_address
    assert copy.reader().read() == b"1"
    assert objects.get_underlying_properties(repository.id, "main", "b").storage_class is None
    with pytest.raises(NotFoundException):
        main.object("nope").copy("main", "c")


def test_listings_are_paged_folded_and_narrowed(repository: Any) -> None:
    main = repository.branch("main")
    for path in ("a", "a-", "a/1", "a/2", "b/x"):
        main.object(path).upload(b"1")
    assert [found.path for found in main.objects(delimiter="/")] == ["a", "a-", "a/", "b/"]
    assert [found.path for found in main.objects(prefix="a/", after="a/1")] == ["a/2"]
    assert [found.path for found in main.objects(max_amount=2)] == ["a", "a-"]


def test_a_thousand_objects_are_deleted_at_once_and_no_more(repository: Any) -> None:
    main = repository.branch("main")
    main.object("kept").upload(b"1")
    main.object("d/1").upload(b"1")
    paths = [f"d/{number}" for number in range(1000)]
    main.delete_objects(paths)
    assert [found.path for found in main.objects()] == ["kept"]
    with pytest.raises(BadRequestException, match="max paths is set to 1000"):
        main.delete_objects([*paths, "one more"])
