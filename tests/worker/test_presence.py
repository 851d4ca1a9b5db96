"""Which workers a workspace root has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from perago.worker.events import Listener, WorkerReady
from perago.worker.host import DIRECTORY, presence, workers_here
from perago.worker.plan import ExportContext

from .bench import make_plan

READY = WorkerReady("my_tasks.features", "features.build", "mytasks0000", 2, 0.1)

HOLDS = """
import sys
from pathlib import Path
from perago.worker.host import presence
from perago.worker.plan import ExportContext
from {module} import READY, make_plan

with presence(ExportContext(plan=make_plan(Path(sys.argv[1])))) as listener:
    listener(READY)
    print("ready", flush=True)
    sys.stdin.read()
"""


def present(directory: Path) -> AbstractContextManager[Listener]:
    plan = make_plan(directory)
    plan.workspace_root.mkdir(mode=0o700, exist_ok=True)
    return presence(ExportContext(plan=plan))


def test_a_worker_is_there_from_ready_until_it_is_down(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    assert workers_here(root) == ()
    with present(tmp_path) as one:
        with present(tmp_path) as other:
            one(READY)
            other(READY)
            first, _ = workers_here(root)
            assert (first.worker_id, first.task_name, first.slots) == ("mytasks0000", "features.build", 2)
            assert first.pid == os.getpid()
        assert len(workers_here(root)) == 1
    assert workers_here(root) == ()
    assert list(root.iterdir()) == []


def test_a_worker_of_several_tasks_has_a_file_for_each(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as worker:
        worker(READY)
        worker(replace(READY, task_name="features.check"))
        assert [one.task_name for one in workers_here(root)] == ["features.build", "features.check"]
    assert list(root.iterdir()) == []


def test_a_killed_worker_is_not_there_and_the_next_one_removes_its_file(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    root.mkdir(mode=0o700)
    program = HOLDS.format(module=__name__)
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        assert [worker.pid for worker in workers_here(root)] == [killed.pid]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert workers_here(root) == ()
    assert len(list((root / DIRECTORY).iterdir())) == 1
    with present(tmp_path) as listener:
        listener(READY)
        assert [worker.pid for worker in workers_here(root)] == [os.getpid()]
        assert len(list((root / DIRECTORY).iterdir())) == 1


def test_what_is_no_workers_file_is_passed_over(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    with present(tmp_path) as worker:
        worker(READY)
        (root / DIRECTORY / "text.json").write_text("{}")
        (root / DIRECTORY / "link.json").symlink_to("/etc/hostname")
        assert len(workers_here(root)) == 1


def test_a_disk_that_refuses_does_not_disturb_the_worker(tmp_path: Path) -> None:
    root = make_plan(tmp_path).workspace_root
    root.write_text("no directory")
    with presence(ExportContext(plan=make_plan(tmp_path))) as worker:
        worker(READY)
        assert workers_here(root) == ()
