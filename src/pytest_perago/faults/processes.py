"""The same call in other processes, in which Python hashes texts otherwise, so that sets have another order.

Run as a module it is one of these processes: it reads what to play from a file, and writes what it saw to another.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_perago.faults.matrix import Matrix
    from pytest_perago.seen import Seen

SEEDS = (1, 2, 3, 4, 5)
"""A set of two texts has the same order under all of them once in 16 times, one of three once in 1,296."""


def play_elsewhere(matrix: Matrix) -> list[Seen]:
    """What the call leaves in a process for each seed.

    Raises:
        pytest.skip.Exception: the task cannot be imported there, or does not end in time.
    """
    given = matrix.given
    job = {
        "path": sys.path,
        "module": matrix.task.module,
        "params": given.params.model_dump(mode="json", by_alias=True, round_trip=True),
        "current": given.current,
        "files": given.files,
        "times": given.times,
        "conditions": matrix.conditions,
        "seconds": matrix.watch.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="perago-elsewhere-") as scratch:
        question = Path(scratch, "question")
        question.write_bytes(pickle.dumps(job))
        running = [_start(seed, question, Path(scratch, f"answer-{seed}")) for seed in SEEDS]
        deadline = time.monotonic() + matrix.watch.seconds
        try:
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.skip("the case did not end in another process")
        finally:
            for process in running:
                process.kill()
                process.wait()
        return [_answer(Path(scratch, f"answer-{seed}")) for seed in SEEDS]


def _start(seed: int, question: Path, answer: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "from pytest_perago.faults.processes import main; main()",
        str(question),
        str(answer),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _answer(file: Path) -> Seen:
    try:
        found: Seen | str = pickle.loads(file.read_bytes())  # noqa: S301 - written by a process of ours
    except (OSError, EOFError, pickle.UnpicklingError):
        found = "it ended without an answer"
    if isinstance(found, str):
        pytest.skip(f"the case cannot be played in another process: {found}")
    return found


def main() -> None:
    """Play, and answer with a `Seen`, or with the reason why that is not possible."""
    question, answer = map(Path, sys.argv[1:3])
    job = pickle.loads(question.read_bytes())  # noqa: S301 - written by the process that started this one
    sys.path[:] = job["path"]
    answer.write_bytes(pickle.dumps(_played(job)))


def _played(job: dict[str, Any]) -> Seen | str:
    from perago.driver import call_function
    from perago.taskdef import load_task
    from pytest_perago.faults.author import AuthorCode
    from pytest_perago.faults.play import Given, Player
    from pytest_perago.memory import Memory
    from pytest_perago.watch import LastResort, Watch

    try:
        task = load_task(job["module"])
        params = task.params_model.model_validate(job["params"])
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything
        return f"{type(error).__name__}: {error}"
    given = Given(params, job["current"], job["files"], job["times"])
    watch = Watch(job["seconds"], LastResort(enabled=False))
    player = Player(task, AuthorCode(task), Memory(task.module), call_function)
    with watch:
        seen = player.play(given, watch, job["conditions"]).seen
    return seen.problem or seen
