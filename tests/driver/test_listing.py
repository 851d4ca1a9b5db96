"""What guardrails see of a commit's listing is what they see of the disk once it is downloaded."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.lakefs import objects as model_objects
from perago.workspace.layout import LayoutRefused, create_directories, directories_to_create, listing_of, plan_layout
from perago.workspace.scan import scan_tree

NAMES = st.sampled_from(["a", "b", "A", ".hidden", "a.csv", "é", "e\u0301", "x y"])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
OBJECTS = st.dictionaries(
    st.one_of(KEYS, KEYS.map(lambda key: f"{key}/")), st.sampled_from([b"", b"1", b"22"]), max_size=12
)


@settings(deadline=None)
@given(objects=OBJECTS, prefix=st.sampled_from(["", "a/", "none/"]))
def test_the_listing_of_a_commit_is_the_scan_of_its_download(objects: dict[str, bytes], prefix: str) -> None:
    tree = {key: b"" if key.endswith("/") else content for key, content in objects.items()}
    tree[FENCE_PATH] = FENCE_TEXT.encode()
    with InMemoryLakeFS(VirtualClock()) as store, tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        workspace.mkdir()
        store.server.create_repository("repo")
        for key, content in tree.items():
            model_objects.put_object(store.server.repository("repo"), "main", key, content)
        commit = store.commit("repo", "main", "m", {}).id
        try:
            placements = plan_layout(store.list_objects("repo", commit, prefix), prefix, workspace)
        except LayoutRefused:
            return  # two keys that one disk cannot hold
        create_directories(workspace, directories_to_create(placements, prefix))
        store.download("repo", commit, workspace, placements)

        listed, found = listing_of(placements, prefix), scan_tree(workspace).listing
        assert (listed.sizes, listed.directories) == (found.sizes, found.directories)
        shutil.rmtree(workspace)
