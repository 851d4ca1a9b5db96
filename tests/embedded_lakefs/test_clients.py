"""The official clients on the embedded lakeFS: the `lakefs` wrapper and `lakefs_sdk`."""

from __future__ import annotations

import os
from typing import Any

from perago.embedded.lakefs.values import SPOOL_THRESHOLD


def test_the_wrapper_supports_a_complete_publication(repository: Any) -> None:
    main = repository.branch("main")
    main.object("in/a.csv").upload(b"x,y\n", content_type="text/csv", metadata={"owner": "me"})
    head = main.commit("input", metadata={"k": "v"})
    staging = repository.branch("staging").create(source_reference=head.id, hidden=True)
    staging.object("out/b.csv").upload("result")
    staging.object("in/a.csv").delete()
    staged = staging.commit("publish")
    assert sorted((entry.type, entry.path) for entry in main.diff(staging)) == [
        ("added", "out/b.csv"),
        ("removed", "in/a.csv"),
    ]
    merged = repository.ref(staged.id).merge_into(main, message="publish", metadata={"m": "1"})
    staging.delete()
    assert main.head.id == merged
    commit = main.get_commit()
    assert commit.parents == [head.id, staged.id]
    assert commit.metadata == {".lakefs.merge.strategy": "default", "m": "1"}
    assert [entry.message for entry in main.log(first_parent=True)] == ["publish", "input", "Repository created"]
    assert [entry.path for entry in repository.ref(merged).objects()] == ["out/b.csv"]


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


def test_a_transaction_with_a_tag_names_its_commit(repository: Any) -> None:
    with repository.branch("main").transact(commit_message="together", tag="release") as transaction:
        transaction.object("a").upload(b"1")
    assert repository.tag("release").get_commit().id == repository.branch("main").head.id
