"""`current()`: the attempt around a function, or a harmless stand-in."""

from __future__ import annotations

import threading

from perago import current
from perago.authoring.context import Current, running, with_hooks


def test_outside_an_attempt_current_is_harmless() -> None:
    outside = current()
    outside.log("nobody listens")
    outside.progress(1, 2)
    assert not outside.cancelled
    assert outside.task_id == ""


def test_inside_an_attempt_current_reaches_it() -> None:
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    attempt = Current(
        workflow_id="w",
        task_id="t",
        task_name="n",
        reference_name="r",
        iteration=2,
        retry_count=1,
        worker_id="demo0001",
    )
    attempt = with_hooks(
        attempt,
        log=lines.append,
        progress=lambda done, total: steps.append((done, total)),
        is_cancelled=lambda: True,
    )
    with running(attempt):
        current().log("line")
        current().progress(1, 3)
        assert current() is attempt
        assert current().cancelled
    assert (lines, steps) == (["line"], [(1, 3)])
    assert current().task_id == ""


def _seen_by_a_thread() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(current().task_id))
    thread.start()
    thread.join(10)
    return found[0]


def test_threads_of_the_function_see_its_attempt() -> None:
    with running(Current(task_id="t")):
        assert _seen_by_a_thread() == "t"
    assert _seen_by_a_thread() == ""


def test_a_thread_sees_no_attempt_when_two_could_be_meant() -> None:
    with running(Current(task_id="one")), running(Current(task_id="two")):
        assert current().task_id == "two"
        assert _seen_by_a_thread() == ""


def test_attempts_in_different_threads_do_not_mix() -> None:
    barrier = threading.Barrier(2, timeout=10)
    found: dict[str, str] = {}

    def attempt(task_id: str) -> None:
        with running(Current(task_id=task_id)):
            barrier.wait()
            found[task_id] = current().task_id
            barrier.wait()

    threads = [threading.Thread(target=attempt, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == {"one": "one", "two": "two"}
