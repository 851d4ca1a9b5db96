"""The plugins that people have beside this one: nothing breaks with all of them together.

`make other-plugins` runs this on the oldest and on the newest pytest, each in an environment that has them.
"""

from __future__ import annotations

import itertools
import re

import pytest

from .projects import ADD, COPY, add_module, free_module, write_module

for _plugin in ("pytest_asyncio", "pytest_cov", "pytest_randomly", "pytest_timeout", "pytest_rerunfailures", "xdist"):
    pytest.importorskip(_plugin)

INI = """
[pytest]
perago_modules = shop
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = --strict-markers --strict-config -p no:conductor-agents-testing
filterwarnings = error
"""

TESTS = """
import asyncio
from shop.copied import Params, copy

def check(perago_run):
    perago_run(copy, Params(), tree={"a.txt": "x"}).assert_completed()

def test_plain(perago_run):
    check(perago_run)

async def test_async(perago_run):
    await asyncio.sleep(0)
    check(perago_run)

def test_subtests(subtests, perago_run):
    for number in range(2):
        with subtests.test(number=number):
            check(perago_run)
"""

CHILDREN = """
import multiprocessing, subprocess, sys
from pathlib import Path
from pydantic import BaseModel
from perago import Example, WorkspaceSpec, task
from shop import children

ROOT = str(Path(__file__).parents[1])

class Params(BaseModel):
    way: str

class Result(BaseModel):
    pass

def examples():
    return [Example(id=way, params={"way": way}, tree={}) for way in ("fork", "subprocess")]

@task(name="starts", owner_email="data@example.com", workspace=WorkspaceSpec(), examples=examples())
def start(workspace: Path, params: Params) -> Result:
    target = workspace / "a.txt"
    if params.way == "subprocess":
        code = f"import sys; sys.path.insert(0, {ROOT!r}); import shop.children as c; c.subprocess_({str(target)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=workspace)
    else:
        child = multiprocessing.get_context("fork").Process(target=children.fork, args=(str(target),))
        child.start()
        child.join()
        assert child.exitcode == 0
    return Result()
"""

IN_CHILDREN = """
def fork(path):
    text = "fork"
    write(path, text)

def subprocess_(path):
    text = "subprocess"
    write(path, text)

def never():
    return "no child calls it"

def write(path, text):
    with open(path, "w") as file:
        file.write(text)
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with two tasks that are in order, and tests of its own."""
    pytester.makeini(INI)
    write_module(pytester, "shop.added", ADD.format(name="add"))
    example = "Example(id='x', params={}, tree={'a.txt': 'x'}, result={'size': 1})"
    write_module(pytester, "shop.copied", COPY.format(name="copy", prefix="/", examples=example))
    pytester.mkdir("tests")
    (pytester.path / "tests" / "test_own.py").write_text(TESTS)
    return pytester


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest with all the plugins that are installed."""
    return pytester.runpytest_subprocess(*arguments, timeout=120)


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_all_kinds_pass_in_any_order(shop: pytest.Pytester, workers: list[str]) -> None:
    result = run(shop, "--perago-update=new", *workers)
    outcomes = result.parseoutcomes()
    assert not {"failed", "error", "errors", "warnings"} & set(outcomes), result.stdout.str()
    assert outcomes["passed"] >= 20


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_a_failed_case_is_run_again_and_prints_the_command(shop: pytest.Pytester, workers: list[str]) -> None:
    body = "from pathlib import Path\nmark = Path(__file__ + params.value)\nif mark.exists():\n    return Model()\n"
    free_module(
        shop,
        "shop.flaky",
        body + "mark.touch() if params.value == '.once' else None\nraise TaskFailed('not yet')",
        ["Example(id='once', params={'value': '.once'})", "Example(id='never', params={'value': '.never'})"],
    )
    result = run(shop, "--reruns=2", "--perago-kinds=run", "--cov=shop", *workers, "shop")
    assert result.parseoutcomes() == {"passed": 3, "failed": 1, "rerun": 3}
    result.stdout.fnmatch_lines(["rerun: pytest 'shop/flaky.py::free::run[[]never[]]'"])


@pytest.mark.parametrize(("method", "workers"), [("signal", []), ("thread", []), ("thread", ["-n1"])])
def test_the_time_limit_of_pytest_timeout_ends_a_function(
    shop: pytest.Pytester, method: str, workers: list[str]
) -> None:
    free_module(shop, "shop.slow", "import time\ntime.sleep(60)", ["Example(id='x', params={})"])
    limit = ("--timeout=5", f"--timeout-method={method}")
    result = run(shop, *limit, "--perago-kinds=run", *workers, "shop/slow.py")
    text = result.stdout.str() + result.stderr.str()
    if method == "signal":
        assert "case 'x': the function raised Failed: Timeout" in text
        assert "rerun: pytest 'shop/slow.py::free::run[x]'" in text
    elif workers:
        assert "crashed while running 'shop/slow.py::free::run[x]'" in text
    else:
        assert re.search(r"slow\.py\", line \d+, in work\n +time\.sleep\(60\)", text)
        assert result.ret == 1


@pytest.mark.parametrize(
    ("config", "workers"),
    [
        ("patch = subprocess, _exit", []),
        ("patch = subprocess, fork, _exit", []),
        ("concurrency = multiprocessing, thread\npatch = subprocess", ["-n2"]),
    ],
    ids=["exit", "fork", "multiprocessing and xdist"],
)
def test_coverage_of_child_processes_is_collected(shop: pytest.Pytester, config: str, workers: list[str]) -> None:
    write_module(shop, "shop.children", IN_CHILDREN)
    write_module(shop, "shop.starting", CHILDREN)
    (shop.path / ".coveragerc").write_text(f"[run]\nsource = shop\n{config}\n")
    arguments = ("--cov=shop", "--cov-report=term-missing", "--perago-kinds=run", "-W", "ignore")
    result = run(shop, *arguments, *workers, "shop/starting.py")
    assert result.parseoutcomes() == {"passed": 2}, result.stdout.str()
    never = IN_CHILDREN.lstrip().splitlines().index('    return "no child calls it"') + 1
    result.stdout.re_match_lines([rf"shop.children\.py .* {never}$"])


def test_randomly_keeps_the_tests_of_a_module_together(pytester: pytest.Pytester) -> None:
    names = [f"work.m{number}" for number in range(4)]
    for number, name in enumerate(names):
        add_module(pytester, name, f"task-{number}")
    orders = set()
    for seed in range(3):
        result = run(
            pytester,
            *("--perago-modules=work", "--perago-kinds=contract,run", "--collect-only", "-q"),
            *("-p", "no:conductor-agents-testing", f"--randomly-seed={seed}"),
        )
        nodeids = [line for line in result.outlines if "::" in line]
        modules = [line.partition("::")[0] for line in nodeids]
        assert [module for module, _ in itertools.groupby(modules)] == list(dict.fromkeys(modules))
        orders.add(tuple(nodeids))
    assert len(orders) > 1
