"""The scenarios of the port to lakeFS: on the model, and by the adapter on the embedded and on a real server."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from perago.ports import FENCE_MARKER, MergeRefusal, TaskQueue, WorkspaceStore
from perago.settings import LakeFSSettings

from ...transfers import download
from .. import targets
from . import conductor_scenarios, lakefs_scenarios
from .lakefs_scenarios import LakeFSScenarios, LakeFSScenariosOverHttp, commit_on_new_branch, refusal_of, write
from .lakefs_services import LakeFSService, embedded, on_the_model, settings_of


@pytest.mark.parametrize(("port", "scenarios"), [(WorkspaceStore, lakefs_scenarios), (TaskQueue, conductor_scenarios)])
def test_every_call_of_a_port_has_a_scenario(port: type, scenarios: ModuleType) -> None:
    called = set(re.findall(r"\w+", inspect.getsource(scenarios)))
    missing = {name for name in dir(port) if not name.startswith("_")} - called - {"close"}
    assert not missing, f"{scenarios.__file__} lacks a scenario for each of these calls"


class TestOnTheModel(LakeFSScenarios):
    @pytest.fixture
    def service(self) -> Iterator[LakeFSService]:
        with on_the_model() as service:
            yield service


class TestOnTheEmbeddedServer(LakeFSScenariosOverHttp):
    @pytest.fixture
    def settings(self) -> Iterator[LakeFSSettings]:
        with embedded() as settings:
            yield settings


@pytest.mark.live
class TestOnARealServer(LakeFSScenariosOverHttp):
    """Every scenario, and what only a real server shows."""

    @pytest.fixture
    def settings(self) -> LakeFSSettings:
        return settings_of(targets.address("lakefs"))

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
    def test_a_store_made_before_a_fork_works_after_it(self, settings: LakeFSSettings, repository: str) -> None:
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
        variables = {
            "LAKECTL_SERVER_ENDPOINT_URL": settings.endpoint_url,
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": settings.access_key_id,
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
        }
        command = [sys.executable, "-c", script, repository]
        finished = subprocess.run(command, env=os.environ | variables, capture_output=True, timeout=120, check=False)
        assert finished.returncode == 0, finished.stderr.decode()
