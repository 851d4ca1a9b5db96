"""The watch of calls that get no answer."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from perago import hanging
from perago.adapters.http import Answer
from perago.adapters.lakefs import session
from perago.hanging import HangWatch
from perago.ports import AccessDenied


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[tuple[str, bool]]:
    monkeypatch.setattr(hanging, "HANGING_AFTER", 0.05)
    return SimpleQueue()


def test_a_hanging_call_is_reported_once_and_again_when_it_is_answered(
    reports: SimpleQueue[tuple[str, bool]],
) -> None:
    watch = HangWatch()
    watch.report_to(lambda text, is_over: reports.put((text, is_over)))
    for _ in range(2):
        with watch.call("lakeFS", "merge"):
            watch.limit(300)
            text, is_over = reports.get(timeout=60)
            assert text == "lakeFS has not answered for 0 s when asked to merge; this call ends after 300 s"
            assert not is_over
        assert reports.get(timeout=60) == ("lakeFS answers again, after 0 s", True)
    assert reports.empty()


def test_a_call_that_fails_waits_until_a_later_call_is_answered(reports: SimpleQueue[tuple[str, bool]]) -> None:
    watch = HangWatch()
    watch.report_to(lambda text, is_over: reports.put((text, is_over)))

    def fail() -> None:
        with watch.call("lakeFS", "merge"):
            reports.get(timeout=60)
            raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        fail()
    assert reports.empty()
    with watch.call("Conductor", "poll"):
        pass
    assert reports.empty()
    with watch.call("lakeFS", "merge"):
        pass
    assert reports.get(timeout=60) == ("lakeFS answers again, after 0 s", True)


def test_calls_that_are_expected_to_wait_are_not_reported(
    reports: SimpleQueue[tuple[str, bool]],
) -> None:
    watch = HangWatch()
    watch.report_to(lambda text, is_over: reports.put((text, is_over)))
    with watch.call("Conductor", "poll", expected=3600), watch_other(watch):
        assert reports.get(timeout=60)[0].startswith("lakeFS ")
    assert reports.get(timeout=60)[0].startswith("lakeFS answers again")
    assert reports.empty()


class watch_other:
    """Make a call to lakeFS on another thread, which hangs until the block ends."""

    def __init__(self, watch: HangWatch) -> None:
        self._watch, self._done = watch, threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _call(self) -> None:
        with self._watch.call("lakeFS", "read"):
            self._done.wait(60)


def test_a_rejected_key_does_not_end_the_report_of_a_hanging_call(
    reports: SimpleQueue[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = HangWatch()
    watch.report_to(lambda text, is_over: reports.put((text, is_over)))
    monkeypatch.setattr(session, "HANGS", watch)

    def send(status: int) -> Answer:
        if status == 401:
            reports.get(timeout=60)
        return Answer(status, {}, b"{}")

    with pytest.raises(AccessDenied):
        session.once(session.Call("merge", "data", "branch"), lambda: send(401), session.json_of)
    assert reports.empty()
    session.once(session.Call("merge", "data", "branch"), lambda: send(200), session.json_of)
    assert reports.get(timeout=60) == ("lakeFS answers again, after 0 s", True)
