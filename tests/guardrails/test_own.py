"""`@guardrail`: what one may be, what it may answer, and what becomes of an attempt when it is wrong itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from perago import GuardrailFunction, TaskDefinitionError, WorkspaceSpec, guardrail, require_file, task
from perago.guardrails.evaluation import Finding, Phase, evaluate
from perago.guardrails.function_guardrail import FunctionGuardrail
from perago.testing import TaskRunner, TaskStatus
from perago.workspace.scan import scan_tree

from ..workspace.building import write

RELEASED = threading.Event()


@guardrail
def has_header(workspace: Path) -> str | None:
    first = (workspace / "raw/a.csv").read_text().partition("\n")[0]
    return None if first == "x,y" else "raw/a.csv has another header than x,y"


@guardrail(name="every-file.is-short")
def all_short(workspace: Path) -> list[str]:
    return [f"{path.name} is long" for path in sorted(workspace.rglob("*.csv")) if path.stat().st_size > 5]


@guardrail
def raises(workspace: Path) -> str | None:
    known: dict[str, str] = {}
    return known["no such key"]


@guardrail
def exits(workspace: Path) -> str | None:
    raise SystemExit(3)


@guardrail(seconds=0.2)
def hangs(workspace: Path) -> str | None:
    RELEASED.wait(60)
    return None


@guardrail(seconds=0.2)
def spins(workspace: Path) -> str | None:
    while not RELEASED.is_set():
        pass
    return None


@guardrail
def counts(workspace: Path) -> str | None:
    return 7  # type: ignore[return-value]


@guardrail
def lists_numbers(workspace: Path) -> list[str]:
    return ["fine", 7]  # type: ignore[list-item]


@guardrail
def says_nothing(workspace: Path) -> str | None:
    return " "


@guardrail
def deletes(workspace: Path) -> str | None:
    (workspace / "raw/a.csv").unlink()
    return None


@guardrail
def touches(workspace: Path) -> str | None:
    os.utime(workspace / "raw/a.csv", (0, 0))
    return None


@guardrail
def writes(workspace: Path) -> str | None:
    (workspace / "raw/cache.idx").write_text("x")
    return None


@guardrail
def makes_a_directory(workspace: Path) -> str | None:
    (workspace / "cache").mkdir()
    return None


@guardrail
def removes_all(workspace: Path) -> str | None:
    shutil.rmtree(workspace)
    return None


def judged(tree: Path, *rules: GuardrailFunction) -> tuple[Finding, ...]:
    if not (tree / "raw").exists():
        write(tree, {"raw/a.csv": "x,z\n"})
    scan = scan_tree(tree)
    return evaluate([require_file("raw/a.csv"), *rules], scan.listing, phase=Phase.PRE, disk=scan)[1:]


def test_a_guardrail_is_callable_like_its_function(tree: Path) -> None:
    write(tree, {"raw/a.csv": "x,z\n"})
    assert has_header(tree) == "raw/a.csv has another header than x,y"
    assert (str(has_header), str(all_short)) == ("has_header", "every-file.is-short")
    assert WorkspaceSpec(pre=[has_header]).pre == (has_header,)


def test_its_answer_is_the_verdict_and_one_of_several_texts_is_enough(tree: Path) -> None:
    write(tree, {"raw/a.csv": "x,y\n", "raw/b.csv": "123456", "raw/c.csv": "1234567"})
    header, short = judged(tree, has_header, all_short)
    assert (header.satisfied, header.matched, header.message) == (True, 3, "pre guardrail has_header: holds")
    assert (short.satisfied, short.is_defect) == (False, False)
    assert short.message == "pre guardrail every-file.is-short: b.csv is long, c.csv is long"


DEFECTS = {
    raises: "raised KeyError: 'no such key' at {here}:",
    exits: "raised SystemExit: 3 at {here}:",
    hangs: "did not end within 0.2 s ({here}:",
    spins: "did not end within 0.2 s ({here}:",
    counts: "returned an object of type int ({here}:",
    lists_numbers: "returned a list with an item of type int ({here}:",
    says_nothing: "returned an empty text ({here}:",
    deletes: "changed the workspace ({here}:{line}): removed 'raw/a.csv'. A guardrail must only read",
    touches: "changed the workspace ({here}:{line}): wrote 'raw/a.csv'",
    writes: "changed the workspace ({here}:{line}): added 'raw/cache.idx'",
    makes_a_directory: "changed the workspace ({here}:{line}): made or removed directories or links",
    removes_all: "changed the workspace ({here}:{line}): the directory was deleted",
}


@pytest.fixture
def _released() -> Iterator[None]:
    RELEASED.clear()
    yield
    RELEASED.set()


@pytest.mark.usefixtures("_released")
@pytest.mark.parametrize("rule", DEFECTS, ids=str)
def test_a_defect_is_named_with_its_line_and_is_not_a_violation(rule: GuardrailFunction, tree: Path) -> None:
    assert isinstance(rule, FunctionGuardrail)
    here = rule.location.readable.rpartition(":")[0]
    (finding,) = judged(tree, rule)
    assert (finding.satisfied, finding.is_defect) == (False, True)
    message = DEFECTS[rule].format(here=here, line=rule.location.line)
    assert finding.message.startswith(f"pre guardrail {rule}: {message}"), finding.message


def test_a_late_guardrail_is_asked_to_end(tree: Path) -> None:
    RELEASED.clear()
    judged(tree, spins)
    deadline = time.monotonic() + 20
    while any(thread.name == "guardrail spins" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


TRACED = """
import os, sys, time
from pathlib import Path
from perago import guardrail
from perago.guardrails.evaluation import GuardrailDefect
from perago.workspace.scan import scan_tree

@guardrail(seconds=0.1)
def waits_in_c(workspace: Path) -> str | None:
    time.sleep(600)
    return None

def one_step() -> None: ...

sys.settrace(lambda *_: None)
try:
    waits_in_c.evaluate_contents(scan_tree(Path.cwd()))
except GuardrailDefect:
    one_step()
    os._exit(7)
"""


def test_a_late_guardrail_in_c_code_blocks_no_traced_thread(tree: Path) -> None:
    """A process under coverage or a debugger stood still in Python 3.11."""
    child = subprocess.run([sys.executable, "-c", TRACED], cwd=tree, timeout=60, check=False)
    assert child.returncode == 7


def test_the_traceback_of_a_defect_begins_in_the_guardrail(tree: Path) -> None:
    (finding,) = judged(tree, raises)
    assert finding.detail is not None
    assert finding.detail.splitlines()[1].strip().startswith(f'File "{__file__}"')


def test_nothing_looks_into_a_tree_that_a_guardrail_has_changed(tree: Path) -> None:
    assert [finding.rule for finding in judged(tree, deletes, has_header)] == ["deletes"]


def test_contents_are_not_looked_into_while_files_are_missing(tree: Path) -> None:
    write(tree, {"raw/b.csv": "x"})
    scan = scan_tree(tree)
    rules = [has_header, require_file("raw/a.csv"), raises]
    findings = evaluate(rules, scan.listing, phase=Phase.PRE, disk=scan)
    assert [finding.rule for finding in findings] == ["require_file('raw/a.csv')"]
    assert evaluate([has_header], scan.listing, phase=Phase.PRE) == ()


# ----------------------------------------------------------------------------- declarations


def wrong_signature_1(path: Path) -> str | None: ...
def wrong_signature_2(workspace: str) -> str | None: ...
def wrong_signature_3(workspace: Path): ...  # type: ignore[no-untyped-def]
def wrong_signature_4(workspace: Path) -> bool:
    return True


def wrong_signature_5(workspace: Path) -> None: ...
async def wrong_signature_6(workspace: Path) -> str | None: ...
def wrong_signature_7(workspace: Path, params: int) -> str | None: ...
def wrong_signature_8(workspace: Path = Path()) -> str | None: ...
def wrong_signature_9(workspace) -> str | None: ...  # type: ignore[no-untyped-def]


WRONG = {
    wrong_signature_1: "the function takes path, not the workspace alone",
    wrong_signature_2: "parameter 'workspace' is a pathlib.Path, not a str",
    wrong_signature_3: "the result has no annotation",
    wrong_signature_4: "the result is bool, not a text, texts or None",
    wrong_signature_5: "the result is always None, so the guardrail can never refuse anything",
    wrong_signature_6: "the function is async",
    wrong_signature_7: "the function takes workspace, params, not the workspace alone",
    wrong_signature_8: "parameter 'workspace' has a default",
    wrong_signature_9: "parameter 'workspace' has no annotation",
}


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_wrong_signature_is_an_error_at_the_line_of_the_function(function: object) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        guardrail(function)  # type: ignore[call-overload]
    assert caught.value.message.startswith(f"@guardrail {function.__name__}: ")  # type: ignore[attr-defined]
    assert WRONG[function] in caught.value.message  # type: ignore[index]
    assert (caught.value.file, caught.value.line) == (__file__, function.__code__.co_firstlineno)  # type: ignore[attr-defined]
    assert caught.value.fix


def fine(workspace: Path) -> str | None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "the name '' is not allowed"),
        ({"name": "a\nb"}, "is not allowed"),
        ({"seconds": 0}, "seconds is 0, not a number above 0"),
        ({"seconds": "1"}, "seconds is '1', not a number"),
        ({"seconds": float("nan")}, "seconds is nan, not a number"),
    ],
    ids=str,
)
def test_a_wrong_option_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message):
        guardrail(**options)(fine)  # type: ignore[call-overload]


def test_a_non_function_is_refused() -> None:
    with pytest.raises(TaskDefinitionError, match="@guardrail decorates a plain function, not a lambda"):
        guardrail(lambda workspace: None)
    with pytest.raises(TaskDefinitionError, match="not an object of type int"):
        guardrail(3)  # type: ignore[call-overload]


def test_two_guardrails_of_one_name_cannot_be_distinguished() -> None:
    other = guardrail(name="has_header")(fine)
    with pytest.raises(TaskDefinitionError, match="item 1 has the name of another guardrail, has_header"):
        WorkspaceSpec(pre=[has_header, other])


# --------------------------------------------------------------------------------- attempts


class Model(BaseModel):
    value: int = 1


def make(**phases: list[GuardrailFunction]):  # type: ignore[no-untyped-def]
    @task(name="own", owner_email="a@example.com", workspace=WorkspaceSpec(**phases))  # type: ignore[arg-type]
    def work(workspace: Path, params: Model) -> Model:
        (workspace / "out.csv").write_text("12345678")
        return params

    return work


TREE = {"raw/a.csv": "x,z\n"}


def test_a_pre_violation_is_final_and_a_defect_is_not() -> None:
    with TaskRunner() as run:
        violated = run(make(pre=[has_header]), tree=TREE)
        assert violated.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
        assert violated.reason == "pre guardrail has_header: raw/a.csv has another header than x,y"
        defect = run(make(pre=[raises]), tree=TREE)
        assert defect.status is TaskStatus.FAILED
        assert defect.reason is not None
        assert defect.reason.startswith("pre guardrail raises: raised KeyError")
        assert any("Traceback" in note for note in defect.notes)
        both = run(make(pre=[raises, has_header]), tree=TREE)
        assert both.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR


def test_nothing_is_published_after_a_post_violation_or_a_defect() -> None:
    with TaskRunner() as run:
        for rules in ([all_short], [deletes]):
            outcome = run(make(post=rules), tree=TREE)
            assert outcome.status is TaskStatus.FAILED
            assert run.tree() == {"raw/a.csv": b"x,z\n"}
