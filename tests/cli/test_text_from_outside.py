"""What others wrote, on a terminal: it writes no escape sequence, hides nothing, and forges no line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from perago.cli import messages
from perago.cli.attempt_view import AttemptView, show_line
from perago.cli.commands import cleanup, definitions
from perago.cli.commands.dev import DevView
from perago.cli.commands.history import print_sheet
from perago.cli.rendering import Column, Renderer, legend
from perago.driver.gc import Fate, Leftover, Policy
from perago.history.attempt_facts import commit_facts, task_facts, workflow_facts
from perago.ports import Commit, ServiceError, TaskStatus
from perago.taskdef.compatibility import Change, Impact
from perago.text import json_text, one_line
from perago.worker import events
from perago.worker.logs import PlainLines
from tests.deliveries import make_delivery

from .conftest import Project

HOSTILE = (
    "\x1b]52;c;aGk=\x07\x9b31mred\r\nerror: forged\u2028error: forged\x85error: forged\x0b\x0c\u202e\u2066\x00\ud800"
)
DELIVERY = make_delivery(task_id="t1", start_time=1, task_name=f"name{HOSTILE}", workflow_id="w", reference_name="r")

REPORTED = events.AttemptEnded(DELIVERY, "p1", events.Ending.REPORTED, 1.0, HOSTILE, TaskStatus.FAILED)
EVENTS: list[events.Event] = [
    events.AttemptReceived(DELIVERY, "p1"),
    REPORTED,
    events.AttemptEnded(DELIVERY, "p1", events.Ending.LOST, 1.0, HOSTILE),
    events.AttemptEnded(DELIVERY, "p1", events.Ending.UNREPORTED, 1.0, HOSTILE, TaskStatus.FAILED),
    events.HandedBack(DELIVERY, HOSTILE),
    events.AttemptEnded(DELIVERY, "p1", events.Ending.HANDED_BACK, 1.0, HOSTILE),
    events.PollingPaused(HOSTILE),
    events.LeaseDoubtful(DELIVERY, "p1", HOSTILE),
    events.ConductorUnreachable(HOSTILE, False),
    events.BranchSweepFailed((HOSTILE,), HOSTILE),
    events.SlotDied("p1", 1, HOSTILE, 1.0),
    events.SlotStartFailed("p1", HOSTILE, "a", 1.0),
    events.FunctionSaid("p1", HOSTILE),
]


def shows_lines(stream: io.StringIO) -> None:
    lines = PlainLines(lambda line: stream.write(f"{line}\n"))
    for event in EVENTS:
        lines(event)


def shows_an_attempt(stream: io.StringIO) -> None:
    with AttemptView(stream) as view:
        for event in EVENTS:
            view(event)


def shows_a_line(stream: io.StringIO) -> None:
    show_line([Commit("c" * 64, (), HOSTILE, HOSTILE, 0, {}, "")], stream)


def prints(show: Callable[[], None]) -> Callable[[pytest.MonkeyPatch, io.StringIO], None]:
    def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("sys.stderr", stream)
        show()

    return shown


def shows_an_attempt_of_servers() -> None:
    row: dict[str, Any] = dict.fromkeys(
        ("taskId", "taskDefName", "referenceTaskName", "status", "workerId", "workflowInstanceId"), HOSTILE
    )
    row |= {
        "reasonForIncompletion": HOSTILE,
        "startTime": 10**400,
        "scheduledTime": HOSTILE,
        "updateTime": float("inf"),
    }
    row["inputData"] = {"workspace": {"repository": HOSTILE, "branch": HOSTILE, "ref": "c" * 64}}
    task = task_facts(row)
    workflow, attempts = workflow_facts({"workflowId": HOSTILE, "status": HOSTILE, "tasks": [row, row]}, task)
    noted = dict.fromkeys(("perago.task_id", "perago.phase", "perago.branch", "perago.input_ref"), HOSTILE)
    facts = {
        "task": task,
        "workflow": workflow,
        "attempts": attempts,
        "commit": commit_facts(HOSTILE, Commit(HOSTILE, (), HOSTILE, HOSTILE, 0, noted, "")),
        "undone": {"commit": HOSTILE},
        "files_from": HOSTILE,
        "fence": "absent",
        "files": {
            "counts": {HOSTILE: 1},
            "fence": HOSTILE,
            "all_counted": True,
            "files": [{"kind": HOSTILE, "path": HOSTILE, "size": None}],
        },
        "conductor_log": [HOSTILE],
        "log_files": [HOSTILE],
        "worker_log": [
            {
                "guardrails": [{"satisfied": False, "message": HOSTILE}],
                "remarks": [HOSTILE],
                "steps": {HOSTILE: 2.0},
                "lines": [],
                "left_out": 0,
            }
        ],
        "problems": [HOSTILE],
    }
    print_sheet(facts, None)


POLICY = Policy(0.0, 0.0, False)
SHOWN: dict[str, Callable[[pytest.MonkeyPatch, io.StringIO], None]] = {
    "lines of start": lambda _, stream: shows_lines(stream),
    "run": lambda _, stream: shows_an_attempt(stream),
    "history": lambda _, stream: shows_a_line(stream),
    "dev": prints(lambda: DevView(["features"], curl=False).line("features", HOSTILE)),
    "gc, a branch": prints(lambda: cleanup.print_leftover(Leftover(HOSTILE, HOSTILE, Fate.KEPT, HOSTILE), POLICY)),
    "gc, a directory": prints(lambda: cleanup.print_leftover(Leftover(HOSTILE, None, Fate.KEPT, HOSTILE), POLICY)),
    "register": prints(
        lambda: definitions.print_comparison("name", False, [Change("", 1, HOSTILE, Impact.BREAKING, HOSTILE)])
    ),
    "show": prints(shows_an_attempt_of_servers),
    "an error": prints(lambda: messages.error(HOSTILE, HOSTILE)),
    "a warning": prints(lambda: messages.warning(HOSTILE)),
    "a service's error": prints(
        lambda: messages.error(messages.service_words(ServiceError("lakeFS", "read", HOSTILE)))
    ),
    "a traceback": prints(lambda: messages.traceback(f"Traceback\n{HOSTILE}")),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_it_is_printable_and_forges_no_line(
    monkeypatch: pytest.MonkeyPatch, show: Callable[[pytest.MonkeyPatch, io.StringIO], None]
) -> None:
    stream = io.StringIO()
    show(monkeypatch, stream)
    monkeypatch.undo()
    text = stream.getvalue()
    assert "forged" in text
    assert [character for character in text.replace("\n", "") if not character.isprintable()] == []
    assert [line for line in text.split("\n") if line.startswith("error: forged")] == []


def test_long_text_is_cut_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("x" * 50_000_000) == "x" * 4000 + "… (50,000,000 characters)"
    messages.error("x\n" * 25_000_000)
    shown = capsys.readouterr().err
    assert len(shown) < 1_000_000
    assert shown.endswith("\n  … (50,000,000 characters)\n")


def test_a_traceback_on_one_line_is_its_error_and_the_last_user_line() -> None:
    text = (
        "cannot start: Traceback (most recent call last):\n"
        '  File "/project/measure.py", line 12, in measure\n    frame = read(path)\n'
        '  File "/venv/lib/python3.11/site-packages/pandas/io.py", line 7, in read\n    raise ValueError(path)\n'
        "ValueError: no columns\n  in sheet 2\n"
    )
    assert one_line(text) == "cannot start: ValueError: no columns (/project/measure.py, line 12) / in sheet 2"


@pytest.mark.parametrize("value", [HOSTILE, {HOSTILE: [HOSTILE, "ä\t🙂 \U000e0041"]}])
def test_json_says_the_same_with_escapes(value: Any) -> None:
    text = json_text(value, indent=1)
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()


RAISES = """
from pydantic import BaseModel
from perago import TaskFailed, task

class Params(BaseModel):
    size: int

class Result(BaseModel):
    text: str

@task(name="loud", owner_email="data@example.com")
def work(params: Params) -> Result:
    hostile = "\\x1b]52;c;aGk=\\x07\\nerror: forged \\u202e"
    print(hostile)
    if params.size:
        raise TaskFailed(hostile + "x" * params.size)
    return Result(text=hostile)
"""


@pytest.mark.parametrize("size", [0, 5_000_000])
def test_a_function_cannot_write_to_the_terminal_of_run(project: Project, size: int) -> None:
    project.module("loud", RAISES)
    ran = project.run("run", "loud", "-p", json.dumps({"size": size}))
    assert ran.code == (1 if size else 0)
    shown = ran.out + ran.err
    assert len(shown) < 10_000
    assert "forged" in shown
    assert shown.replace("\n", "").isprintable()
    assert [line for line in shown.split("\n") if line.startswith("error: forged")] == []


# ------------------------------------------------------------------------ The renderer of all commands


COLUMNS = (
    Column[int]("number", "the number itself", str),
    Column[int]("double", "twice the number", lambda number: str(2 * number)),
    Column[int]("name", "", lambda number: f"row {number}"),
)


def test_a_column_is_declared_once_for_the_table_and_its_legend() -> None:
    stream = io.StringIO()
    Renderer(stream).table(COLUMNS, [7, 1000], lambda number: ["large"] if number > 100 else [])
    assert stream.getvalue() == (
        "number  double  name\n     7      14  row 7\n  1000    2000  row 1000\n         large\n"
    )
    assert legend(COLUMNS) == "number  the number itself\ndouble  twice the number"


def test_a_pipe_gets_lines_without_colors_wrapping_and_status() -> None:
    stream = io.StringIO()
    renderer = Renderer(stream)
    renderer.begin("working")
    renderer.doing("still working")
    renderer.entry("label", ["x" * 200, "second"])
    renderer.end()
    renderer.line(renderer.file("added", "out/a\x1b.csv", 1536))
    renderer.line(renderer.status("FAILED"))
    assert stream.getvalue() == (f"label     {'x' * 200}\n          second\n+ out/a⟨U+001B⟩.csv  1.5 KiB\nFAILED\n")
