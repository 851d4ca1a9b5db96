"""The alerts of `deploy/kubernetes/prometheus-rule.yaml`, evaluated by Prometheus' own promtool on recorded scrapes.

Time goes on after a recorded scrape: the age of a running attempt grows, and everything else stays.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perago.worker.metrics import FAMILIES

from .files import CONTAINER, MANIFESTS, SCRAPES, Samples, samples_of, tool

RULES: list[dict[str, Any]] = [
    rule for group in MANIFESTS["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]
]
JOB = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"][MANIFESTS["PodMonitor"]["spec"]["jobLabel"]]
FINE, BROKEN = 90, 75
"""Minutes before the breakage, and since then."""

EXPECTED: dict[str, set[str]] = {
    "nothing": set(),
    "endless_loop": {"PeragoAttemptTooLong"},
    "conductor_outage": {"PeragoConductorDown"},
    "lakefs_outage": {"PeragoLakeFSDown", "PeragoAttemptsWaiting", "PeragoAttemptTooLong"},
    "lakefs_without_objects": {"PeragoAttemptsWaiting", "PeragoAttemptTooLong"},
    "rejected_credentials": {"PeragoCredentialsRejected", "PeragoAttemptsWaiting", "PeragoAttemptTooLong"},
    "full_disk": {"PeragoDiskFull", "PeragoDiskFilling"},
    "failing_function": set(),
}
"""Alerts that fire `BROKEN` minutes after each breakage."""
SOON = {
    **{
        breakage: alerts - {"PeragoAttemptTooLong"}
        for breakage, alerts in EXPECTED.items()
        if breakage != "endless_loop"
    },
    "failing_function": {"PeragoAttemptsFail"},
}
"""Those of the first ten minutes."""


def recorded(name: str) -> Samples:
    return samples_of((SCRAPES / f"{name}.prom").read_text(encoding="utf-8"))


def series(name: str, before: float, then: str) -> dict[str, str]:
    """One series of the input: `before`, and `then` from the breakage on."""
    return {"series": name, "values": f"{before!r}x{FINE - 1} {then}"}


CHANGED: dict[str, tuple[str, dict[str, str], float]] = {
    "stopped_slot": ("perago_slots_stopped", {}, 1.0),
    "stalled_network": ("perago_attempts_waiting", {"service": "lakeFS"}, 1.0),
    "slow_attempt": ("perago_oldest_attempt_seconds", {"task": "features"}, 60.0),
    "no_permission": ("perago_polls_refused", {"task": "features"}, 1.0),
    "broken_module": ("perago_slots", {"state": "starting"}, 1.0),
    "dying_slots": ("perago_slot_deaths_total", {}, 5.0),
    "unreported_result": ("perago_attempts_total", {"outcome": "unreported", "task": "features"}, 1.0),
    "terminal_attempt": ("perago_attempts_total", {"outcome": "terminal", "task": "features"}, 1.0),
    "long_queue": ("perago_queue_wait_seconds_bucket", {"le": "+Inf", "task": "features"}, 2.0),
    "lost_attempts": ("perago_attempts_total", {"outcome": "lost", "task": "features"}, 5.0),
    "failed_heartbeats": ("perago_leases_in_doubt_total", {}, 1.0),
}
"""Breakages that change one sample of a healthy worker."""
USUAL = {"perago_attempt_seconds_sum": 20, "perago_attempt_seconds_count": 1}
"""Growth of a minute before a slow attempt: one attempt of 20 seconds."""


def input_of(breakage: str) -> list[dict[str, str]]:
    """A healthy worker that becomes a broken one. A worker that is gone has no samples."""
    fine = recorded("nothing")
    broken = fine if breakage in ("killed", "frozen", *CHANGED) else recorded(breakage)
    if breakage in CHANGED:
        changed, changed_labels, value = CHANGED[breakage]
        broken = Samples({**fine, (changed, tuple(changed_labels.items())): value})
    target = f'job="{JOB}", instance="10.0.0.1:9464"'
    up = {"killed": "stale", "frozen": f"0x{BROKEN}"}.get(breakage, f"1x{BROKEN}")
    all_series = [series(f"up{{{target}}}", 1.0, up)]
    for (name, labels), value in broken.items():
        before = fine.get((name, labels), 0.0)
        inner = ", ".join([target, *(f'{label}="{text}"' for label, text in labels)])
        is_age = name == "perago_oldest_attempt_seconds" and value > 0
        is_filling = breakage == "long_queue" and value > before
        grows = 60 if is_age else int(is_filling)
        then = "stale" if breakage in ("killed", "frozen") else f"{value!r}+{grows}x{BROKEN}"
        if breakage == "slow_attempt" and name in USUAL:
            values = f"0+{USUAL[name]}x{FINE - 1} {FINE * USUAL[name]}x{BROKEN}"
            all_series.append({"series": f"{name}{{{inner}}}", "values": values})
            continue
        all_series.append(series(f"{name}{{{inner}}}", before, then))
    return all_series


def firing(breakage: str, minute: int, alerts: set[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool: exactly these alerts fire so many minutes after the breakage."""
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump(MANIFESTS["PrometheusRule"]["spec"]), encoding="utf-8")
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)]
    query = {
        "expr": 'count by (alertname) (count by (alertname, alertstate) (ALERTS{alertstate="firing"}))',
        "eval_time": f"{FINE + minute}m",
        "exp_samples": expected,
    }
    test = {"interval": "1m", "input_series": input_of(breakage), "promql_expr_test": [query]}
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    file = directory / "test.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return subprocess.run([tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)


CASES: list[tuple[str, int, set[str]]] = [
    *((breakage, BROKEN - 5, alerts) for breakage, alerts in EXPECTED.items()),
    *((breakage, 10, alerts) for breakage, alerts in SOON.items()),
    ("rejected_credentials", 2, {"PeragoCredentialsRejected"}),
    ("stopped_slot", 4, {"PeragoSlotStopped"}),
    ("stalled_network", 4, {"PeragoAttemptsWaiting"}),
    ("slow_attempt", 5, set()),
    ("slow_attempt", 8, {"PeragoAttemptTooLong"}),
    ("no_permission", 7, {"PeragoPollsRefused"}),
    ("broken_module", 12, {"PeragoSlotsCannotStart"}),
    ("dying_slots", 5, {"PeragoSlotsDie"}),
    ("unreported_result", 5, {"PeragoResultNotReported"}),
    ("lost_attempts", 5, {"PeragoAttemptsLost"}),
    ("failed_heartbeats", 5, {"PeragoHeartbeatsFail"}),
    ("terminal_attempt", 3, {"PeragoAttemptFailedForGood"}),
    ("long_queue", 40, {"PeragoQueueTooLong"}),
    ("killed", 12, {"PeragoNoWorker", "PeragoTaskWithoutWorker"}),
    ("frozen", 12, {"PeragoNoWorker", "PeragoWorkerDown", "PeragoTaskWithoutWorker"}),
]


@pytest.mark.parametrize(("breakage", "minutes", "alerts"), CASES)
def test_a_breakage_fires_its_alerts_and_no_others(
    breakage: str, minutes: int, alerts: set[str], tmp_path: Path
) -> None:
    ran = firing(breakage, minutes, alerts, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_fires_in_a_case() -> None:
    assert {rule["alert"] for rule in RULES} == {alert for _, _, alerts in CASES for alert in alerts}


def test_the_alert_of_a_lost_workflow_does_not_hide_the_next() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "PeragoAttemptFailedForGood")
    assert "[5m]" in rule["expr"]


def test_a_small_disk_that_is_empty_raises_no_alert() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "PeragoDiskFilling")
    assert "perago_disk_bytes" in rule["expr"]


def test_rules_select_the_job_of_the_monitor_and_metrics_of_a_worker() -> None:
    kinds = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    labels = {f"{family.name}{end}": {*family.labels} for family in FAMILIES for end in kinds[family.kind]}
    for rule in RULES:
        selected = re.findall(r"\b(perago_\w+|up)\{([^}]*)\}", rule["expr"])
        assert selected, rule
        assert set(re.findall(r"\b(perago_\w+)", rule["expr"])) <= set(labels), rule["alert"]
        for name, inner in selected:
            selectors = dict(re.findall(r'(\w+)=~?"([^"]*)"', inner))
            assert selectors.pop("job") == JOB, rule["alert"]
            assert set(selectors) <= labels.get(name, set()), rule["alert"]
        known = {"instance", "job"}.union(*(labels.get(name, set()) for name, _ in selected))
        text = f"{rule['annotations']['summary']} {rule['annotations']['description']}"
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, rule["alert"]
    assert CONTAINER["ports"][0]["name"] == MANIFESTS["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"]


def test_each_alert_says_what_has_happened_and_what_to_do() -> None:
    texts = [rule["annotations"] for rule in RULES]
    assert [text for text in texts if not text["summary"] or not text["description"].endswith(".")] == []
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


# --------------------------------------------------------------------------- the dashboard for Grafana


REPOSITORY = Path(__file__).parents[2]
DASHBOARD = json.loads((REPOSITORY / "deploy/grafana-dashboard.json").read_text(encoding="utf-8"))
PAGE = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")


def documented() -> dict[str, set[str]]:
    """Labels of each metric of the page, which tests/worker/test_metrics.py holds against a worker."""
    rows = re.findall(r"^\| `(perago_\w+)(?:\{([^}]*)\})?` \| (\w+) \|", PAGE, re.MULTILINE)
    metrics: dict[str, set[str]] = {}
    for name, labels, kind in rows:
        names = [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        own = {"le"} if kind == "histogram" else set()
        metrics |= {name: {*filter(None, labels.split(",")), "job", "instance"} | own for name in names}
    return metrics


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        yield variable.get("definition", "")


def test_it_uses_the_metrics_of_a_worker_with_their_labels_and_no_others() -> None:
    known = documented()
    used = set()
    for query in queries():
        for name, selected in re.findall(r"\b(perago_\w+)(?:\{([^}]*)\})?", query):
            assert name in known, query
            assert set(re.findall(r"(\w+)=", selected)) <= known[name], query
            used.add(name)
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} == bases


def test_its_legends_and_groups_name_labels_of_their_metrics() -> None:
    known = documented()
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = set().union(*(known[name] for name in re.findall(r"\b(perago_\w+)", target["expr"])))
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                named |= set(group.split(", "))
            assert named <= labels, target["expr"]


def test_the_panels_of_the_dashboard_do_not_overlap_and_are_explained() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
