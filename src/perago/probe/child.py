"""Inside the child process: import one task module and write a report about it."""

from __future__ import annotations

import base64
import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.processes import release_signals

if TYPE_CHECKING:
    from perago.authoring import Example, Task, TaskDefinitionError, WorkspaceSpec

REPORT = "report.json"
STACK = "stack.txt"
TIME_IS_UP = "Timeout ("
"""The beginning of the stack that faulthandler writes at the time limit. The stack of a crash begins differently."""


def run_forked(module: str, directory: str, seconds: float, examine: str, output: int) -> None:
    """Import the module in a child that was just forked. Does not return.

    Args:
        module: The import path of the task module.
        directory: Where the report goes.
        seconds: How long the import may take.
        examine: As in `inspect_module`.
        output: The descriptor that becomes standard output and error.
    """
    try:
        os.setsid()
        _forget_servers()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        release_signals()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, output + 1)
        inspect_module(module, directory, seconds, examine)
    finally:
        os._exit(1)


def _forget_servers() -> None:
    """Let multiprocessing start servers of its own if the module uses them, because only their parent can use the
    parent's. Close the pipes to these, which would outlive the parent as long as this process has them open."""
    for name, pipe in (("forkserver", "_forkserver_alive_fd"), ("resource_tracker", "_fd")):
        if (module := sys.modules.get(f"multiprocessing.{name}")) is not None:
            server = getattr(module, f"_{name}")
            if (descriptor := getattr(server, pipe)) is not None:
                os.close(descriptor)
            server.__init__()


def run_fresh() -> None:
    """Import the module in an interpreter that was started with the arguments of `inspect_module`."""
    release_signals()
    import perago.taskdef  # noqa: F401 - loaded before the module's time begins, as it is for a child that was forked

    module, directory, seconds, examine = sys.argv[1:]
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    inspect_module(module, directory, float(seconds), examine)


def inspect_module(module: str, directory: str, seconds: float, examine: str) -> None:
    """Write the report and end immediately, even if the module has left threads and exit handlers.

    At the time limit, the process writes its stack and ends itself. It has its own timer, because it can be paused
    while its parent's clock runs.

    Args:
        module: The import path of the task module.
        directory: Where the report goes.
        seconds: How long the import may take.
        examine: Empty, or the module whose `review(task)` returns the problems of the examples. The report then has
            advice, too.
    """
    own = os.getpid()
    sys.argv = [module]
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    with Path(directory, STACK).open("w") as stack:
        faulthandler.enable(stack)
        faulthandler.dump_traceback_later(seconds, exit=True, file=stack)
        report = _report(module, examine)
        if os.getpid() != own:  # a fork of the module comes along here as well
            os._exit(0)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
    new = Path(directory, "new")
    new.write_text(json.dumps(report), encoding="utf-8")
    new.replace(Path(directory, REPORT))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _report(module: str, examine: str) -> dict[str, Any]:
    from perago.authoring import TaskDefinitionError
    from perago.authoring.declaration import readable_path
    from perago.authoring.task import withheld
    from perago.taskdef import build_task_definition, canonical_json, load_task

    for name in withheld(tuple(os.environ)):  # a worker's slot imports the module without them, too
        del os.environ[name]
    before = set(sys.modules)
    workflows: list[dict[str, Any]] = []
    warnings: list[TaskDefinitionError] = []
    try:
        try:
            task = load_task(module)
        finally:
            workflows += _workflows(module, warnings)
        if examine and task.examples and (problem := importlib.import_module(examine).review(task)):
            fix = "correct the example, or what it shows"
            return _problem("invalid-example", problem, f"{readable_path(task.file)}:{task.line}", fix, None)
        workspace = task.workspace
        return {
            "task": {
                "name": task.name,
                "workspace": None if workspace is None else f"/{workspace.prefix}",
                "read_only": workspace is not None and workspace.read_only,
                "pre": 0 if workspace is None else len(workspace.pre),
                "post": 0 if workspace is None else len(workspace.post),
                "definition": canonical_json(build_task_definition(task)),
                "declared": [_example(task, example) for example in task.examples],
                "environment": task.environment,
                "include": () if workspace is None else workspace.include,
                "exclude": () if workspace is None else workspace.exclude,
                "missing": _missing_libraries(workspace),
            },
            "files": _files_of(module, before),
            "advice": [*(_advice(task) if examine else []), *_notes(warnings)],
            "workflows": workflows,
        }
    except TaskDefinitionError as error:
        first, *others = (_declared(problem, error) for problem in getattr(error, "problems", (error,)))
        first["problem"]["others"] = [other["problem"] for other in others]
        files = _files_of(module, before) if workflows else []
        return {**first, "workflows": workflows, "files": files, "advice": _notes(warnings)}
    except BaseException as error:  # noqa: BLE001 - a mistake of ours; the parent shows it
        return _problem("invalid-module", f"unexpected {type(error).__name__}: {error}", "", "", error)


def _notes(warnings: Iterable[TaskDefinitionError]) -> list[str]:
    from perago.authoring.declaration import readable_path

    lines = (f"{readable_path(note.file or '')}:{note.line}: {note.message}; {note.fix}" for note in warnings)
    return list(dict.fromkeys(lines))


def _declared(problem: TaskDefinitionError, error: TaskDefinitionError) -> dict[str, Any]:
    """Return the report of one problem. `error` is the raised error, which can have several problems."""
    from perago.authoring.declaration import readable_path
    from perago.taskdef.loading import NoTask

    file = readable_path(problem.file or "")
    where = f"{file}:{problem.line}" if problem.file and problem.line else file
    code = "invalid-workflow" if hasattr(error, "problems") else "invalid-module"
    return _problem(code, problem.message, where, problem.fix or "", error, isinstance(problem, NoTask))


def _workflows(module: str, warnings: list[TaskDefinitionError]) -> list[dict[str, Any]]:
    """Return the workflows of an imported module, and append their warnings; empty if the import failed."""
    from perago.taskdef.loading import CONDUCTOR_WORKFLOW

    imported = sys.modules.get(module)
    if imported is None or not {"perago.workflows", CONDUCTOR_WORKFLOW} & sys.modules.keys():
        return []
    from perago.authoring.declaration import Location
    from perago.taskdef import canonical_json
    from perago.workflows.flow import Workflow, WorkflowDefinitionError
    from perago.workflows.sdk import all_workflows_of

    summaries: dict[str, dict[str, Any]] = {}
    problems: list[TaskDefinitionError] = []
    workflows = all_workflows_of(imported)
    for workflow in workflows:
        if workflow.name in summaries:  # tests and `perago send` know a workflow of a module by its name
            rule = f"the module declares the workflow {workflow.name!r} twice"
            fix = "give one of the two another name, or write the other version into another module"
            problems.append(Location(workflow.file, workflow.line).error(rule, fix))
            continue
        where = Location(workflow.file, workflow.line).readable
        summaries[workflow.name] = {"name": workflow.name, "version": workflow.version, "where": where}
        try:
            summaries[workflow.name]["definition"] = canonical_json(workflow.definition())
            if isinstance(workflow, Workflow):
                summaries[workflow.name]["schedule"] = workflow._scheduled()
            warnings += workflow._build().warnings
        except WorkflowDefinitionError as error:
            problems += error.problems
            warnings += error.warnings
    if problems:
        different = {str(problem): problem for problem in problems}  # a workflow has those of its sub-workflows, too
        first = workflows[0]
        raise WorkflowDefinitionError(first.name, tuple(different.values()), first.file, first.line)
    return list(summaries.values())


def _missing_libraries(workspace: WorkspaceSpec | None) -> list[tuple[str, str]]:
    if workspace is None or not (workspace.pre or workspace.post):
        return []
    from perago.guardrails.evaluation import missing_of

    return missing_of(workspace)


def _advice(task: Task) -> list[str]:
    model = task.params_model
    if model.model_config.get("extra") in ("allow", "forbid"):
        return []
    return [
        f"{model.__name__} ignores keys that it does not know, so a misspelt one changes nothing; "
        f'refuse them with: class {model.__name__}(BaseModel, extra="forbid")'
    ]


def _example(task: Task, example: Example) -> dict[str, Any]:
    tree = example.tree
    if tree is None or isinstance(tree, Mapping):
        shown: Any = {
            path: {"base64": base64.b64encode(content).decode()} if isinstance(content, bytes) else content
            for path, content in (tree or {}).items()
        }
    else:
        shown = str(Path(task.file).parent / Path(str(tree).replace("\\", "/")))
    return {"id": example.id, "params": dict(example.params), "tree": shown}


def _files_of(module: str, before: set[str]) -> list[str]:
    """Return the files that an author edits: the module, and its imports from below the current directory."""
    here, installed = Path.cwd(), Path(sys.prefix).resolve()
    files = set()
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if not isinstance(file, str) or (name in before and name != module):
            continue
        path = Path(file).resolve()
        if name == module or (path.is_relative_to(here) and not path.is_relative_to(installed)):
            files.add(str(path))
    return sorted(files)


def _problem(
    code: str, message: str, where: str, fix: str, error: BaseException | None, is_no_task: bool = False
) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error)) if error else ""
    problem = {"code": code, "message": message, "where": where, "fix": fix, "traceback": text}
    return {"problem": {**problem, "is_no_task": is_no_task}}
