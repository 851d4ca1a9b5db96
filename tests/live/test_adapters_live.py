"""Both adapters against real servers: the same calls that production makes.

Needs `CONDUCTOR_SERVER_URL` for Conductor and the three `LAKECTL_` variables for lakeFS; each half is skipped without.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from perago.ports import FENCE_MARKER, MergeRefusal, WorkspaceStore
from perago.settings import LakeFSSettings

from ..conformance.ports.conductor_scenarios import ConductorScenariosOverHttp
from ..conformance.ports.lakefs_scenarios import (
    LakeFSScenariosOverHttp,
    commit_on_new_branch,
    files_in,
    refusal_of,
    write,
)
from ..downloads import download
from .servers import CONDUCTOR, LAKEFS, variables

pytestmark = pytest.mark.live

# --------------------------------------------------------------------- lakeFS

GIBIBYTE = """
import hashlib, os, resource, sys
from pathlib import Path
from perago.adapters.lakefs import LakeFSStore
from perago.ports import Placement, Upload
from perago.settings import load_settings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1024**2)

repository, place, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
store = LakeFSStore(load_settings().lakefs)
head = store.get_commit(repository, "main").id
store.create_branch(repository, "big", head)
before, digest, block = peak(), hashlib.md5(), os.urandom(1024 * 1024)
with (place / "big").open("wb") as file:
    for number in range(size // len(block)):
        piece = number.to_bytes(8, "big") + block[8:]
        digest.update(piece)
        file.write(piece)
store.upload(repository, "big", [Upload("big", place / "big", size, digest.hexdigest())])
commit = store.commit(repository, "big", "big", {}).id
(entry,) = store.list_objects(repository, commit, "")
store.download(repository, commit, place / "to", [Placement(entry, place / "to" / entry.key)])
assert (place / "to" / "big").stat().st_size == size
print(peak() - before)
"""


class TestOnARealLakeFS(LakeFSScenariosOverHttp):
    """Every scenario, and what only a real server shows."""

    @pytest.fixture
    def settings(self) -> LakeFSSettings:
        endpoint, key, secret = variables(LAKEFS)
        return LakeFSSettings(endpoint, key, SecretStr(secret))

    @pytest.mark.parametrize(
        ("text", "reason"), [(f"{FENCE_MARKER}: moved", MergeRefusal.HEAD_MOVED), ("policy", MergeRefusal.HOOK)]
    )
    def test_a_hook_s_refusal_is_told_from_the_fence_s(
        self, store: WorkspaceStore, repository: str, tmp_path: Path, text: str, reason: MergeRefusal
    ) -> None:
        action = textwrap.dedent(f"""\
            name: gate
            on: {{pre-merge: {{branches: ["*"]}}}}
            hooks:
              - id: gate
                type: lua
                properties: {{script: 'require("hook").fail("{text}")'}}
            """)
        base = store.get_commit(repository, "main").id
        staged = commit_on_new_branch(
            store, repository, "one", base, write(tmp_path, "_lakefs_actions/gate.yaml", action.encode())
        )
        assert refusal_of(store, repository, staged) is reason

    def test_metadata_beyond_ascii_survives(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        file = write(tmp_path / "from", "a", b"1", metadata={"Owner": "Jörg 😀"})
        staged = commit_on_new_branch(store, repository, "one", store.get_commit(repository, "main").id, file)
        (placement,) = download(store, repository, staged, tmp_path / "to")
        assert placement.entry.metadata == {"owner": "Jörg 😀"}

    def test_many_small_files_go_both_ways(self, store: WorkspaceStore, repository: str, tmp_path: Path) -> None:
        files = [write(tmp_path / "from", f"d{n % 20}/f{n:05}", os.urandom(4096)) for n in range(2000)]
        base = store.get_commit(repository, "main").id
        store.create_branch(repository, "many", base)
        _report("2,000 x 4 KiB up", len(files), lambda: store.upload(repository, "many", files))
        staged = store.commit(repository, "many", "many", {}).id
        _report("2,000 x 4 KiB down", len(files), lambda: download(store, repository, staged, tmp_path / "to"))
        assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
        store.delete_objects(repository, "many", [file.key for file in files])
        emptied = store.commit(repository, "many", "nothing left", {}).id
        assert download(store, repository, emptied, tmp_path / "none") == []

    def test_a_gibibyte_goes_both_ways_in_flat_memory(self, repository: str, tmp_path: Path) -> None:
        size = int(os.environ.get("PERAGO_LIVE_BIG_MIB", "1024")) * 1024 * 1024
        command = [sys.executable, "-c", GIBIBYTE, repository, str(tmp_path), str(size)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert finished.returncode == 0, finished.stderr
        assert int(finished.stdout) < 24, "MiB of memory that a gibibyte may add"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="slots fork on Linux only")
    def test_a_store_made_before_a_fork_works_after_it(self, repository: str) -> None:
        script = textwrap.dedent("""\
            import os, sys
            from perago.adapters.lakefs import LakeFSStore
            from perago.settings import load_settings
            store = LakeFSStore(load_settings().lakefs)
            children = []
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    store.list_objects(sys.argv[1], store.get_commit(sys.argv[1], "main").id, "")
                    os._exit(0)
                children.append(child)
            sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
            """)
        finished = subprocess.run(
            [sys.executable, "-c", script, repository], capture_output=True, timeout=120, check=False
        )
        assert finished.returncode == 0, finished.stderr.decode()


def _report(what: str, count: int, transfer: Any) -> None:
    wall, cpu = time.monotonic(), time.process_time()
    transfer()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{what}: {count / wall:.0f} files/s, {cpu / count * 1e6:.0f} µs CPU a file, peak RSS {peak}")


# ------------------------------------------------------------------ Conductor


class TestOnARealConductor(ConductorScenariosOverHttp):
    """Every scenario."""

    @pytest.fixture
    def conductor_url(self) -> str:
        return variables(CONDUCTOR)[0].rstrip("/")
