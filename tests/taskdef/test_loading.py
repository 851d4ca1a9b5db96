"""From a module path to its one task, or to one line that says why not."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from perago import TaskDefinitionError
from perago.authoring.task import get_task
from perago.taskdef import load_task

HEAD = """
from pydantic import BaseModel
from perago import task
class Value(BaseModel):
    value: int = 0
"""

TASK = (
    HEAD
    + """
@task(name="sample", owner_email="data@example.com")
def work(params: Value) -> Value:
    return params
"""
)


def write(project: Path, name: str, text: str) -> Path:
    file = project.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    importlib.invalidate_caches()
    return file


def error_of(module: str) -> TaskDefinitionError:
    with pytest.raises(TaskDefinitionError) as caught:
        load_task(module)
    return caught.value


def test_a_module_with_one_task_is_loaded() -> None:
    task = load_task("app.workers.features")
    assert (task.name, task.module) == ("features.build", "app.workers.features")
    assert load_task("app.workers.features") is task


@pytest.mark.parametrize(
    ("spelling", "message", "fix"),
    [
        ("app/workers/features.py", "is a file path", "write app.workers.features"),
        ("app\\workers\\features.py", "is a file path", "write app.workers.features"),
        ("C:\\app\\features.py", "is a file path", "write app.features"),
        ("app/workers/__init__.py", "is a file path", "write app.workers"),
        ("features.py", "is a file path", "write features"),
        ("src/app/features.py", "is a file path", "write app.features"),
        ("app.workers.features:build_features", "names an object", "write app.workers.features"),
        ("app/workers/features.py:build", "is a file path", "write app.workers.features"),
        (".features", "is not a module's import path", "write it like app.workers.features"),
        ("app.class", "is not a module's import path", "write it like app.workers.features"),
        ("my-app.py", "is a file path", "write it like app.workers.features"),
        ("", "is not a module's import path", "write it like app.workers.features"),
    ],
)
def test_anything_but_a_dotted_path_is_refused_with_the_right_spelling(spelling: str, message: str, fix: str) -> None:
    error = error_of(spelling)
    assert message in error.message
    assert error.fix == fix


@pytest.mark.parametrize(
    ("module", "message", "fix"),
    [
        (
            "app.workers.featurs",
            "'featurs' was not found in the package app.workers",
            "did you mean app.workers.features?",
        ),
        ("app.worker.features", "'worker' was not found in the package app", "did you mean app.workers.features?"),
        ("ap.workers.features", "'ap' was not found on the import path", "did you mean app.workers.features?"),
        ("app.workers.features.more", "app.workers.features is a module, not a package", "write app.workers.features"),
        (
            "no_such_project_here",
            "was not found on the import path",
            "the directory that contains no_such_project_here",
        ),
        ("json.decode", "'decode' was not found in the package json", "did you mean json.decoder?"),
    ],
)
def test_a_module_that_does_not_exist_is_reported_with_the_nearest_one(module: str, message: str, fix: str) -> None:
    error = error_of(module)
    assert error.message.startswith(f"there is no module {module}: ")
    assert message in error.message
    assert fix in (error.fix or "")
    assert error.file is None


def test_a_directory_that_looks_like_the_module_is_not_suggested_instead(project: Path) -> None:
    (project / "zzqqxxjj.py").mkdir()
    error = error_of("zzqqxxjj")
    assert error.fix == "correct the path, or run the command in the directory that contains zzqqxxjj"


@pytest.mark.parametrize(
    ("directory", "fix"),
    [
        ("src", "zzqq is in src, so set PYTHONPATH=src for the command; or install your project: pip install -e ."),
        ("other", "correct the path, or run the command in other, which contains zzqq"),
    ],
)
def test_a_module_below_another_directory_is_found_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, directory: str, fix: str
) -> None:
    monkeypatch.chdir(project)
    (project / "pyproject.toml").touch()
    (project / directory / "zzqq").mkdir(parents=True)
    (project / directory / "zzqq" / "job.py").touch()
    assert error_of("zzqq.job").fix == fix


def test_for_a_package_the_modules_with_tasks_are_named() -> None:
    error = error_of("app.workers")
    assert error.message == "package app.workers declares no task"
    assert error.fix == "name one of its modules: app.workers.audit, app.workers.features, app.workers.summary"
    assert (error_of("app.workers.helpers").fix or "").endswith(
        "; or name the modules of these tasks: app.workers.summary"
    )


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("broken.no_task", None, "declares no task"),
        ("app.workers.helpers", None, "it only imports summary.add of app.workers.summary, which does not count"),
        (
            "broken.two_tasks",
            17,
            "declares 2 tasks, but a module can declare only one: first (line 12), second (line 17)",
        ),
        ("broken.exits", 5, "it ends the process (SystemExit: 3)"),
        ("broken.interrupts", 3, "it was interrupted (KeyboardInterrupt)"),
        ("broken.absolute_guardrail", 7, "require_file: '/etc/passwd' is absolute"),
        ("broken.recursive", 22, "Node contains itself"),
        ("broken.hidden_by_a_decorator", 22, "a decorator is above @task"),
    ],
)
def test_a_broken_module_is_reported_in_one_line_at_the_authors_line(
    module: str, line: int | None, message: str
) -> None:
    error = error_of(module)
    assert message in error.message
    assert "\n" not in error.message
    assert error.file is not None
    assert error.file.endswith(f"{module.rpartition('.')[2]}.py")
    assert error.line == line
    assert error.fix


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("x = 1\ny = (\n", 2, "SyntaxError: '(' was never closed", id="syntax"),
        pytest.param("if True:\nx = 1\n", 2, "IndentationError", id="indentation"),
        pytest.param("x = 'a\\udcff'.encode()\n", 1, "UnicodeEncodeError", id="encoding"),
        pytest.param(
            "import json\nfrom json import nothing\n", 2, "ImportError: cannot import name 'nothing'", id="name"
        ),
        pytest.param("import json.nothing\n", 1, "needs the module json.nothing", id="missing submodule"),
        pytest.param("\n1 / 0\n", 2, "ZeroDivisionError: division by zero", id="exception"),
        pytest.param("raise KeyError\n", 1, "cannot be imported: KeyError", id="exception without a message"),
        pytest.param("raise ValueError('a\\nb')\n", 1, "ValueError: a", id="message of two lines"),
        pytest.param("raise ValueError('x' * 9999)\n", 1, "ValueError: xxx", id="long message"),
        pytest.param("class Stop(BaseException): ...\nraise Stop('now')\n", 2, "Stop: now", id="BaseException"),
        pytest.param("raise ModuleNotFoundError('odd')\n", 1, "ModuleNotFoundError: odd", id="nameless missing module"),
        pytest.param(
            "raise ModuleNotFoundError('x', name='sick')\n", 1, "needs the module sick", id="own name missing"
        ),
        pytest.param(
            "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
            4,
            "module sick cannot be imported: Mute",
            id="exception that cannot say anything",
        ),
        pytest.param("def f(): f()\nf()\n", 1, "RecursionError", id="recursion"),
        pytest.param(
            "from sick import later\nlater = 1\n", 1, "ImportError: cannot import name 'later'", id="circular"
        ),
    ],
)
def test_a_module_that_fails_at_import_is_reported_with_its_line(
    project: Path, text: str, line: int, message: str
) -> None:
    file = write(project, "sick", text)
    error = error_of("sick")
    assert message in error.message
    assert (error.file, error.line) == (str(file), line)
    assert len(error.message) < 400
    assert "sick" not in sys.modules


def test_the_line_is_the_deepest_one_of_the_author_even_in_another_package(project: Path) -> None:
    helper = write(project, "common.tables", "import json\n\ndef load(text):\n    return json.loads(text)\n")
    write(project, "shop.worker", "from common.tables import load\n\nload('{')\n")
    error = error_of("shop.worker")
    assert (error.file, error.line) == (str(helper), 4)


def test_a_package_above_the_module_may_be_the_sick_one(project: Path) -> None:
    file = write(project, "shop.__init__", "import shop.missing\n")
    write(project, "shop.worker", TASK)
    error = error_of("shop.worker")
    assert "needs the module shop.missing" in error.message
    assert (error.file, error.line) == (str(file), 1)


RESISTING = "class Proxy:\n    def __getattribute__(self, name):\n        raise RuntimeError(name)\nproxy = Proxy()\n"
UNDEFINED = (
    f"from __future__ import annotations\n{HEAD}class Params(BaseModel):\n    items: list[Item]\n"
    + TASK.removeprefix(HEAD).replace("params: Value", "params: Params")
)
LOADED = {
    "a task of two names": TASK + "again = work\n",
    "an imported task next to it": TASK + "from base import work as other\n",
    "a wrapper that keeps the task next to it": TASK + "import functools\ncached = functools.lru_cache(work)\n",
    "a member that cannot be read": RESISTING + TASK,
    "models after the task": UNDEFINED + "class Item(BaseModel):\n    name: str\n",
}


@pytest.mark.parametrize("text", LOADED.values(), ids=LOADED)
def test_a_module_may_have_other_members_than_its_task(project: Path, text: str) -> None:
    write(project, "base", TASK.replace('"sample"', '"base"'))
    write(project, "loaded", text)
    task = load_task("loaded")
    assert task.name == "sample"
    assert get_task(task.function) is task
    assert task.params_model.model_json_schema()["properties"].keys() <= {"value", "items"}


def test_a_task_inside_a_function_does_not_count(project: Path) -> None:
    inner = TASK.strip().partition("@task")[2].replace("\n", "\n    ")
    write(project, "inner", HEAD + f"def make():\n    @task{inner}\n    return work\nmake()\n")
    assert "declares no task" in error_of("inner").message


def test_a_wrapper_without_wraps_above_the_decorator_is_reported(project: Path) -> None:
    above = "def timed(function):\n    return lambda params: function(params)\n"
    write(project, "hidden", HEAD + above + TASK.removeprefix(HEAD).replace("@task", "@timed\n@task"))
    error = error_of("hidden")
    assert "declares no task" in error.message
    assert "put @task above all other decorators" in (error.fix or "")


def test_names_have_the_meaning_of_the_place_where_the_function_is_written(project: Path) -> None:
    plain = "from __future__ import annotations\n" + HEAD + "def work(params: Value) -> Value:\n    return params\n"
    write(project, "plain", plain)
    other = HEAD.replace("value: int", "other: int") + "import plain\n"
    other += 'task(name="sample", owner_email="data@example.com")(plain.work)\n'
    write(project, "declaring", other)
    importlib.import_module("declaring")
    assert set(load_task("plain").params_model.model_fields) == {"value"}


def test_a_model_with_an_undefined_name_is_reported(project: Path) -> None:
    write(project, "never", UNDEFINED)
    error = error_of("never")
    assert "`Item`" in error.message
    assert "errors.pydantic.dev" not in str(error)


def test_a_withheld_variable_at_import_is_explained(project: Path) -> None:
    write(project, "eager", "import os\nURL = os.environ['LAKECTL_SERVER_ENDPOINT_URL_X']\n")
    error = error_of("eager")
    assert error.line == 2
    assert error.fix == (
        "perago withholds LAKECTL_SERVER_ENDPOINT_URL_X while modules are imported: read it in the function, and write "
        "@task(environment=['LAKECTL_SERVER_ENDPOINT_URL_X'])"
    )
