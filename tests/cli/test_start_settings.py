"""`perago start` hands every setting over to the worker."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from pydantic import SecretStr

from perago.cli.commands import start
from perago.hanging import HangWatch
from perago.probe import TaskSummary
from perago.settings import LogFormat, PublishFence, Settings, Upkeep
from perago.worker.plan import WorkerPlan

OTHER_VALUES: dict[str, Any] = {
    "conductor_server_url": "http://other:8080/api",
    "conductor_auth_key": "other-key",
    "conductor_auth_secret": SecretStr("other-conductor-secret"),
    "lakefs_endpoint_url": "http://other:8000",
    "lakefs_access_key_id": "other-id",
    "lakefs_secret_access_key": SecretStr("other-lakefs-secret"),
    "workspace_root": Path("other-workspaces"),
    "log_root": Path("other-logs"),
    "log_file_max_size": 1000,
    "log_retention": 1,
    "log_format": LogFormat.JSON,
    "log_files": False,
    "time_zone": "Europe/Berlin",
    "worker_id_prefix": "other",
    "shutdown_grace": 1.0,
    "publish_fence": PublishFence.REQUIRED,
    "transfer_threads": 1,
    "max_result_bytes": 1,
    "max_workspace_bytes": 1,
    "max_workspace_objects": 1,
    "cache_max_bytes": 1,
    "allowed_workspaces": ("other/*",),
    "maintenance": frozenset({Upkeep.LOGS}),
}
"""A value for each setting that differs from that of `settings`."""
NOT_HANDED_OVER = {
    "worker_id": "the supervisor writes it for its slots",
    "warnings": "they are printed at the start",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    variables = {
        "CONDUCTOR_SERVER_URL": "http://conductor:8080/api",
        "CONDUCTOR_AUTH_KEY": "key",
        "CONDUCTOR_AUTH_SECRET": "conductor-secret",
        "LAKECTL_SERVER_ENDPOINT_URL": "http://lakefs:8000",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "id",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "lakefs-secret",
        "PERAGO_WORKSPACE_ROOT": str(tmp_path / "workspaces"),
        "PERAGO_LOG_ROOT": str(tmp_path / "logs"),
        "PERAGO_CACHE_MAX_BYTES": "1000",
    }
    return Settings(**variables)  # type: ignore[arg-type]


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], bytes]:
    """Return everything that the worker of these settings gets, as bytes."""
    received: list[Any] = []

    def queue(conductor: Any, **_: Any) -> SimpleNamespace:
        received.append(conductor)
        return SimpleNamespace(
            close=lambda: None, ping=lambda: None, read_end=lambda: None, get_task_definition=lambda: None
        )

    def supervisor(plan: WorkerPlan, *_: Any, **__: Any) -> SimpleNamespace:
        received.append(plan)
        return SimpleNamespace(run=lambda: 0, stop=lambda: None)

    @contextlib.contextmanager
    def exporting(_: Any) -> Iterator[tuple[()]]:
        yield ()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("perago.adapters.conductor.ConductorQueue", queue)
    monkeypatch.setattr("perago.worker.supervisor.Supervisor", supervisor)
    monkeypatch.setattr("perago.worker.exporters.exporting", exporting)
    monkeypatch.setattr("perago.cli.services.reach", lambda *_, **__: None)
    for name in ("check_fork_server", "discard_fork_server"):
        monkeypatch.setattr(f"perago.worker.fork_server.{name}", lambda: None)
    monkeypatch.setattr(start, "hand_over", lambda _: None)
    monkeypatch.setattr(start, "HANGS", HangWatch())
    task = TaskSummary(name="build", workspace="/", read_only=False, pre=0, post=0, definition="{}")

    def start_worker(settings: Settings) -> bytes:
        received.clear()
        monkeypatch.setattr(start, "_validated", lambda *_, **__: ({"features": task}, settings))
        with pytest.raises(typer.Exit):
            start.command(["features"])
        assert len(received) == 2
        return pickle.dumps(received)

    return start_worker


def test_every_setting_is_handed_over_or_says_why_not() -> None:
    assert OTHER_VALUES.keys() | NOT_HANDED_OVER.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_worker_gets_each_setting(name: str, settings: Settings, handed_over: Callable[[Settings], bytes]) -> None:
    before = handed_over(settings)
    assert handed_over(settings.model_copy()) == before
    assert handed_over(settings.model_copy(update={name: OTHER_VALUES[name]})) != before
