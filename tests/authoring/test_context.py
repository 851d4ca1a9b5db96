"""`current()`: the attempt around a function, and the metrics that the function reports."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from perago import Metric, TaskDefinitionError, current, task
from perago.authoring.context import MOST_METRICS, Current, Measured, Measurements, running, with_hooks
from perago.testing.tasks import task_of


def test_outside_an_attempt_current_is_harmless() -> None:
    outside = current()
    outside.log("nobody listens")
    outside.progress(1, 2)
    outside.count("anything")
    outside.gauge("anything", 1)
    outside.observe("anything", 1)
    assert not outside.cancelled
    assert outside.task_id == ""


def _seen_by_a_thread() -> str:
    task_ids: list[str] = []
    thread = threading.Thread(target=lambda: task_ids.append(current().task_id))
    thread.start()
    thread.join(10)
    return task_ids[0]


def test_threads_of_the_function_see_its_attempt_unless_two_could_be_meant() -> None:
    with running(Current(task_id="one")):
        assert _seen_by_a_thread() == "one"
        with running(Current(task_id="two")):
            assert current().task_id == "two"
            assert _seen_by_a_thread() == ""
    assert _seen_by_a_thread() == ""


def test_attempts_in_different_threads_do_not_mix() -> None:
    barrier = threading.Barrier(2, timeout=10)
    task_ids: dict[str, str] = {}

    def attempt(task_id: str) -> None:
        with running(Current(task_id=task_id)):
            barrier.wait()
            task_ids[task_id] = current().task_id
            barrier.wait()

    threads = [threading.Thread(target=attempt, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert task_ids == {"one": "one", "two": "two"}


# ----------------------------------------------------------------------------------------- metrics


ROWS = Metric(name="rows", kind="counter")
SHARE = Metric(name="share", kind="gauge")
SIZES = Metric(name="sizes", kind="histogram", buckets=(1.0, 10.0))


class Params(BaseModel):
    pass


class Result(BaseModel):
    pass


def declared(metrics: Any) -> tuple[Metric, ...]:
    @task(name="t", owner_email="tests@example.com", metrics=metrics)
    def work(params: Params) -> Result:
        return Result()

    declared_task = task_of(work)
    return declared_task.metrics


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Rows", "kind": "counter"}, "'Rows' must be lower-case letters, digits and '_'"),
        ({"name": "a" * 65, "kind": "counter"}, "at most 64 characters"),
        ({"name": "rows", "kind": "sum"}, "kind: must be 'counter', 'gauge' or 'histogram', not 'sum'"),
        ({"name": "rows", "kind": "counter", "buckets": (1.0,)}, "a counter has no buckets"),
        ({"name": "rows", "kind": "histogram", "buckets": (2.0, 1.0)}, "at most 30 rising numbers"),
        ({"name": "rows", "kind": "histogram", "buckets": (math.inf,)}, "must be a finite number"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_at_import(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskDefinitionError, match="Metric: ") as refused:
        Metric(**fields)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (ROWS, "metrics must be a list of Metric(...), not Metric"),
        ("rows", "metrics must be a list of Metric(...), not str"),
        (["rows"], "metrics[0] must be Metric(...), not str"),
        ([ROWS, Metric(name="rows", kind="gauge")], "two metrics have the name 'rows'"),
        ([Metric(name=f"m{n}", kind="gauge") for n in range(MOST_METRICS + 1)], "51 metrics are more than 50"),
    ],
)
def test_metrics_that_do_not_fit_together_are_refused_at_import(metrics: Any, message: str) -> None:
    with pytest.raises(TaskDefinitionError) as refused:
        declared(metrics)
    assert message in str(refused.value)


def test_metrics_of_a_function_are_summed() -> None:
    measurements = Measurements("t", (SIZES, ROWS, SHARE))
    with running(with_hooks(Current(), measure=measurements)):
        current().count("rows")
        current().count("rows", 2.5)
        current().gauge("share", 0.25)
        current().gauge("share", 0.5)
        for size in (0.5, 1.0, 10.0, 11.0):
            current().observe("sizes", size)
    assert measurements.all() == (
        Measured("sizes", "histogram", 22.5, 4, (1.0, 10.0), (2, 1, 1)),
        Measured("rows", "counter", 3.5, 2),
        Measured("share", "gauge", 0.5, 2),
    )


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("counter", "rowz", 1, "declares no such metric; did you mean 'rows'? Declare it: @task(metrics=[Metric("),
        ("gauge", "x", 1, "declares no such metric. Declare it: @task(metrics=[Metric(name='x', kind='gauge')])"),
        ("gauge", "rows", 1, "current().gauge('rows'): it is declared as a counter; use current().count"),
        ("counter", "rows", -1, "a counter only grows"),
        ("counter", "rows", math.nan, "is not a finite number"),
        ("gauge", "share", "1", "is not a finite number"),
        ("gauge", "share", True, "is not a finite number"),
        ("counter", "rows", 10**400, "current().count('rows'): an integer of 1,329 bits is too large for a float"),
    ],
)
def test_an_undeclared_metric_is_refused_with_the_missing_declaration(
    kind: Any, name: str, value: Any, message: str
) -> None:
    measurements = Measurements("t", (ROWS, SHARE))
    with pytest.raises(ValueError) as refused:
        measurements(kind, name, value)
    assert message in str(refused.value)
    assert measurements.all() == ()


def test_a_sum_that_overflows_is_refused() -> None:
    measurements = Measurements("t", (ROWS,))
    measurements("counter", "rows", 1.5e308)
    with pytest.raises(ValueError, match="the sum is too large"):
        measurements("counter", "rows", 1.5e308)
