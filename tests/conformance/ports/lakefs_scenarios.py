"""The life of a publication, as scenarios for everything that is a `WorkspaceStore`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.attempt.publication import FENCE_CHECKSUM, FENCE_PATH, FENCE_TEXT
from perago.ports import (
    AccessDenied,
    Commit,
    MergeRefusal,
    MergeRefused,
    NotFound,
    NothingToCommit,
    Upload,
    WorkspaceStore,
)
from perago.settings import LakeFSSettings

from ...transfers import download, files_in, to_upload
from .lakefs_services import LakeFSService, over_http


def write(directory: Path, key: str, content: bytes, **more: Any) -> Upload:
    return to_upload(directory / key, content, key, **more)


def commit_on_new_branch(store: WorkspaceStore, repository: str, branch: str, source: str, *files: Upload) -> str:
    store.create_branch(repository, branch, source)
    store.upload(repository, branch, files)
    return store.commit(repository, branch, f"stage on {branch}", {}).id


def refusal_of(store: WorkspaceStore, repository: str, source: str) -> MergeRefusal:
    with pytest.raises(MergeRefused) as refused:
        store.merge(repository, source, "main", "publish", {})
    return refused.value.reason


def missing(store: WorkspaceStore, repository: str, directory: Path) -> dict[str, list[Callable[[], object]]]:
    """Calls that name something that does not exist, by what the adapter says of it."""
    nowhere = "0" * 64
    head = store.get_commit(repository, "main").id
    return {
        "repository no-such does not exist": [
            lambda: store.get_commit("no-such", "main"),
            lambda: store.ancestry("no-such", head, limit=1),
        ],
        "repository No_Such does not exist": [  # no repository can have this name
            lambda: store.get_commit("No_Such", "main"),
            lambda: store.get_commit("No_Such", head),
            lambda: store.ancestry("No_Such", head, limit=1),
            lambda: store.list_objects("No_Such", head, ""),
        ],
        f"commit {nowhere} does not exist": [
            lambda: store.get_commit(repository, nowhere),
            lambda: store.list_objects(repository, nowhere, ""),
            lambda: store.create_branch(repository, "new", nowhere),
            lambda: store.ancestry(repository, nowhere, limit=1),
        ],
        f"branch {head[:12]} does not exist": [lambda: store.get_commit(repository, head[:12])],
        "branch main~1 does not exist": [lambda: store.get_commit(repository, "main~1")],
        "branch gone does not exist": [
            lambda: store.upload(repository, "gone", [write(directory, "a", b"1")]),
            lambda: store.commit(repository, "gone", "text", {}),
            lambda: store.history(repository, "gone", until=head, limit=1),
            lambda: store.newest_staged(repository, "gone"),
        ],
    }


class LakeFSScenarios:
    """Inherit as a `Test` class and provide a `service` fixture: a `LakeFSService`."""

    says_what_is_missing = False

    @pytest.fixture
    def store(self, service: LakeFSService) -> WorkspaceStore:
        return service.store

    @pytest.fixture
    def repository(self, service: LakeFSService) -> str:
        return service.repository

    def test_a_publication_from_branch_to_merge(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        first = store.get_commit(repository, "main")
        assert store.get_commit(repository, first.id) == first
        store.create_branch(repository, "perago-a", first.id)
        assert store.list_branches(repository, "perago-") == ("perago-a",)
        files = [
            write(tmp_path / "from", "in/a b+c&ü%41.txt", b"text", content_type="text/plain", metadata={"Owner": "me"}),
            write(tmp_path / "from", "in/deep/er/empty", b""),
            write(tmp_path / "from", "out/x", b"x"),
        ]
        store.upload(repository, "perago-a", files)
        assert store.has_uncommitted_changes(repository, "perago-a")
        assert not store.has_uncommitted_changes(repository, "main")
        staged = store.commit(repository, "perago-a", "stage", {"perago.phase": "stage"})
        assert (staged.parents, staged.metadata) == ((first.id,), {"perago.phase": "stage"})
        with pytest.raises(NothingToCommit):
            store.commit(repository, "perago-a", "again", {})
        merged = store.merge(repository, staged.id, "main", "publish", {"perago.phase": "merge"})
        merge = store.get_commit(repository, merged)
        assert merge.parents == (first.id, staged.id)
        assert merge.meta_range_id == staged.meta_range_id
        assert store.history(repository, "main", until=first.id, limit=10) == (merge,)
        with pytest.raises(MergeRefused) as refused:
            store.merge(repository, staged.id, "main", "publish", {})
        assert refused.value.reason is MergeRefusal.NO_CHANGES
        store.delete_branch(repository, "perago-a")
        store.delete_branch(repository, "perago-a")
        assert store.list_branches(repository, "") == ("main",)
        placements = download(store, repository, merged, tmp_path / "to", "in/")
        assert files_in(tmp_path / "to") == {"a b+c&ü%41.txt": b"text", "deep/er/empty": b""}
        entry = next(placement.entry for placement in placements if placement.entry.size)
        assert (entry.content_type, entry.metadata) == ("text/plain", {"owner": "me"})
        assert (tmp_path / "to" / "a b+c&ü%41.txt").stat().st_mtime == entry.mtime

    def test_only_staged_objects_show_the_last_write_to_a_branch(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        store.upload(repository, "main", [write(tmp_path, key, b"1") for key in ("a/1", "a/2", "b/3", "same")])
        head = store.commit(repository, "main", "before", {}).id
        store.create_branch(repository, "perago-a", head)
        assert store.newest_staged(repository, "perago-a") is None
        store.delete_objects(repository, "perago-a", ["b/3"])
        assert store.newest_staged(repository, "perago-a") is None
        store.upload(repository, "perago-a", [write(tmp_path, "a/2", b"two"), write(tmp_path, "a/2 new", b"")])
        listed = store.list_objects(repository, head, "")
        newest = store.newest_staged(repository, "perago-a")
        assert newest is not None
        assert max(entry.mtime for entry in listed) <= newest <= time.time() + 60
        store.commit(repository, "perago-a", "stage", {})
        assert store.newest_staged(repository, "perago-a") is None

    def test_history_pages_along_first_parents(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        first = store.get_commit(repository, "main")
        commits: list[Commit] = []
        for number in range(5):
            store.upload(repository, "main", [write(tmp_path, "a", b"%d" % number)])
            commits.insert(0, store.commit(repository, "main", f"number {number}", {}))
        assert store.history(repository, "main", until=first.id, limit=100) == tuple(commits)
        assert store.history(repository, "main", until=first.id, limit=2) == tuple(commits[:2])
        assert store.history(repository, "main", until=commits[0].id, limit=2) == ()
        assert store.history(repository, "main", until=commits[2].id, limit=100) == tuple(commits[:2])
        assert store.ancestry(repository, commits[1].id, limit=2) == tuple(commits[1:3])
        assert [each.id for each in store.ancestry(repository, commits[3].id, limit=100)][:3] == [
            commits[3].id,
            commits[4].id,
            first.id,
        ]

    def test_an_ancestry_follows_the_first_parent_of_a_merge_to_the_beginning(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        first = store.get_commit(repository, "main")
        staged = commit_on_new_branch(store, repository, "one", first.id, write(tmp_path, "new", b"1"))
        merged = store.merge(repository, staged, "main", "publish", {"perago.phase": "merge"})
        newest, *others = store.ancestry(repository, merged, limit=100)
        assert (newest.id, newest.parents) == (merged, (first.id, staged))
        assert newest.metadata["perago.phase"] == "merge"
        assert others[0].id == first.id
        assert others[-1].parents == ()

    def test_a_publication_is_undone_and_a_head_merged_into_its_own_branch(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        store.upload(repository, "main", [write(tmp_path, "kept", b"1"), write(tmp_path, "changed", b"1")])
        first = store.commit(repository, "main", "before", {})
        staged = commit_on_new_branch(
            store, repository, "one", first.id, write(tmp_path, "changed", b"2"), write(tmp_path, "new", b"3")
        )
        merged = store.merge(repository, staged, "main", "publish", {})
        assert store.diff(repository, first.id, merged) == {"changed": 1, "new": 1}
        assert store.diff(repository, merged, first.id) == {"changed": 1, "new": None}
        fence = store.merge(repository, merged, "main", "fence", {"perago.phase": "fence"}, allow_empty=True)
        assert store.get_commit(repository, fence).parents == (merged, merged)
        store.create_branch(repository, "undo", fence)
        with pytest.raises(NothingToCommit):
            store.revert(repository, "undo", fence)
        store.revert(repository, "undo", merged)
        undone = store.get_commit(repository, "undo")
        assert undone.parents == (fence,)
        assert undone.meta_range_id == first.meta_range_id
        assert store.diff(repository, first.id, undone.id) == {}

    def test_the_checksum_of_an_object_is_its_md5_and_only_objects_are_found(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        store.upload(repository, "main", [write(tmp_path, "dir/a b", b"text")])
        head = store.commit(repository, "main", "one", {}).id
        found = store.stat_objects(repository, head, ["dir", "dir/a b", "dir/c"])
        assert list(found) == ["dir/a b"]
        assert found["dir/a b"].checksum == hashlib.md5(b"text", usedforsecurity=False).hexdigest()
        assert found["dir/a b"] == store.list_objects(repository, head, "dir/")[0]
        with pytest.raises(NotFound):
            store.stat_objects(repository, "0" * 64, ["dir/a b"])

    def test_the_publish_fence_lets_a_merge_through_on_the_expected_head_only(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        store.upload(repository, "main", [write(tmp_path, FENCE_PATH, FENCE_TEXT.encode())])
        head = store.commit(repository, "main", "fence", {}).id
        assert store.stat_objects(repository, head, [FENCE_PATH])[FENCE_PATH].checksum == FENCE_CHECKSUM
        one = commit_on_new_branch(store, repository, "one", head, write(tmp_path, "a", b"1"))
        two = commit_on_new_branch(store, repository, "two", head, write(tmp_path, "b", b"2"))
        by_hand = commit_on_new_branch(store, repository, "three", head, write(tmp_path, "c", b"3"))
        merged = store.merge(repository, one, "main", "publish", {"perago.expected_head": head})
        with pytest.raises(MergeRefused) as refused:
            store.merge(repository, two, "main", "publish", {"perago.expected_head": head})
        assert refused.value.reason is MergeRefusal.HEAD_MOVED
        assert merged in refused.value.detail
        with pytest.raises(MergeRefused):
            store.merge(repository, merged, "main", "fence", {"perago.expected_head": head}, allow_empty=True)
        store.merge(repository, by_hand, "main", "somebody without perago", {})

    def test_merges_are_refused_with_their_reason(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        base = store.get_commit(repository, "main").id
        staged = commit_on_new_branch(store, repository, "one", base, write(tmp_path / "1", "same", b"1"))
        other = commit_on_new_branch(store, repository, "two", base, write(tmp_path / "2", "same", b"2"))
        store.upload(repository, "main", [write(tmp_path, "outside", b"x")])
        assert refusal_of(store, repository, staged) is MergeRefusal.DIRTY
        store.commit(repository, "main", "somebody else", {})
        store.merge(repository, staged, "main", "publish", {})
        assert refusal_of(store, repository, other) is MergeRefusal.CONFLICT

    def test_missing_items_are_not_found(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        for text, attempts in missing(store, repository, tmp_path).items():
            for attempt in attempts:
                with pytest.raises(NotFound, match=text if self.says_what_is_missing else None):
                    attempt()

    def test_a_branch_named_like_an_abbreviated_id_is_not_taken_for_the_commit(
        self, store: WorkspaceStore, repository: str, tmp_path: Path
    ) -> None:
        first = store.get_commit(repository, "main")
        second = commit_on_new_branch(store, repository, first.id[:10], first.id, write(tmp_path, "a", b"1"))
        assert store.get_commit(repository, first.id).id == first.id
        assert store.get_commit(repository, first.id[:10]).id == second


class LakeFSScenariosOverHttp(LakeFSScenarios):
    """Inherit as a `Test` class and provide a `settings` fixture that names the server."""

    says_what_is_missing = True

    @pytest.fixture
    def service(self, settings: LakeFSSettings) -> Iterator[LakeFSService]:
        with over_http(settings) as service:
            yield service

    def test_wrong_credentials_are_denied(self, settings: LakeFSSettings) -> None:
        wrong = LakeFSStore(LakeFSSettings(settings.endpoint_url, settings.access_key_id, SecretStr("wrong")))
        with pytest.raises(AccessDenied):
            wrong.get_commit("any", "main")
