"""Both adapters against real servers: the same calls that production makes.

Needs `CONDUCTOR_SERVER_URL` for Conductor and the three `LAKECTL_` variables for lakeFS; each half is skipped without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import SecretStr

from perago.ports import FENCE_MARKER, MergeRefusal, WorkspaceStore
from perago.settings import LakeFSSettings

from ..conformance.ports.conductor_scenarios import ConductorScenariosOverHttp
from ..conformance.ports.lakefs_scenarios import (
    LakeFSScenariosOverHttp,
    commit_on_new_branch,
    refusal_of,
    write,
)
from ..transfers import download
from .servers import CONDUCTOR, LAKEFS, variables

pytestmark = pytest.mark.live

# --------------------------------------------------------------------- lakeFS


class TestOnARealLakeFS(LakeFSScenariosOverHttp):
    """Every scenario, and what only a real server shows."""

    @pytest.fixture
    def settings(self) -> LakeFSSettings:
        endpoint, key, secret = variables(LAKEFS)
        return LakeFSSettings(endpoint, key, SecretStr(secret))

    @pytest.mark.parametrize(
        ("text", "reason"), [(f"{FENCE_MARKER}: moved", MergeRefusal.HEAD_MOVED), ("policy", MergeRefusal.HOOK)]
    )
    def test_the_refusal_of_another_hook_is_distinguished_from_that_of_the_fence(
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


# ------------------------------------------------------------------ Conductor


class TestOnARealConductor(ConductorScenariosOverHttp):
    """Every scenario."""

    @pytest.fixture
    def conductor_url(self) -> str:
        return variables(CONDUCTOR)[0].rstrip("/")
