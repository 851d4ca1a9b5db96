r"""Declared cases, from an `Example` or a case file, recorded cases of production, and the failure of a case.

Case files are for people who do not write Python (docs/testing/generated.md).

`tests/perago_cases/<task>/<case>.toml`, with the tree in the directory `<case>/` next to it:

    expect = "completed"              # or pre, post, failed, terminal; this is the default
    published = ["features/a.csv"]    # the files that the attempt adds or changes; optional
    removed = []                      # the files that it removes; optional

    [params]
    feature_set = "a"

    [result]                          # the expected result; optional
    files = 1

    [tree]                            # a small tree, in place of the directory
    "raw/a.csv" = "x\n1\n"

`tests/perago_cases/<task>/<name>/`:

    case.json       params, signals of a workflow, how the attempt ended, its result, digests of what it published
    input/          the tree that it read
    published/      those of the published files that are small
    taskdef.json    the TaskDef of the time

`perago capture` writes them. If you remove a key from `case.json`, it is not compared. This includes the `reason` of a
failure, in `about`.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago import __version__
from perago.atomic_file import replace_file
from perago.authoring import Example, Task, TaskDefinitionError, WorkspaceSpec
from perago.authoring.workspace import Listing
from perago.guardrails.evaluation import ContentGuardrail, Phase, evaluate
from perago.settings.mask import REDACTED
from perago.taskdef.payload import InvalidInput, InvalidResult, check_recorded_result, parse_input, workspace_block
from perago.taskdef.schema import output_schema, schema_problem
from perago.text import count, listing, quoted
from perago.trees import BadTree, read_sources, sizes_of
from perago.trees.differences import AttemptResult, Content, Digest, digest_of
from perago.workspace.keys import View

TreeSource = Mapping[str, str | bytes | None] | Path

_KEYS = {"params", "expect", "result", "tree", "published", "removed"}


class InvalidCase(Exception):
    """A case cannot be read; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class RunCase:
    """An input, and the expected outcome. Paths are relative to the workspace."""

    label: str
    params: Mapping[str, Any]
    tree: TreeSource
    expect: str
    result: Any = None
    published: tuple[str, ...] | None = None
    removed: tuple[str, ...] | None = None
    file: Path | None = None
    """The case file; None for a declared `Example`."""
    signals: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The signals of a workflow, by the step that waits for them."""


def case_of_example(task: Task, example: Example) -> RunCase:
    """Return a declared example as a case."""
    tree = example.tree
    if tree is None or isinstance(tree, Mapping):
        source: TreeSource = tree or {}
    else:
        source = Path(task.file).parent / Path(str(tree).replace("\\", "/"))
    return RunCase(example.id, example.params, source, example.expect, example.result)


def case_files(directory: Path, task: Task) -> tuple[Path, ...]:
    """Return the case files of a task, sorted."""
    return tuple(sorted((directory / task.name).glob("*.toml")))


def read_case_file(file: Path) -> RunCase:
    """Read one case file.

    Raises:
        InvalidCase: it is not TOML or not in the format above; or a link leads to its file or into its directory.
    """
    directory = file.with_suffix("")
    for path in (file.parent, file, directory, *(() if directory.is_symlink() else directory.rglob("*"))):
        if path.is_symlink():
            raise InvalidCase(f"{path} is a link to {path.readlink()}; copy what it leads to in its place")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidCase(f"{file} is not TOML: {error}") from None
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise InvalidCase(f"{file}: unknown key {unknown[0]!r}; a case has {', '.join(sorted(_KEYS))}")
    fields = {key: document[key] for key in ("params", "expect", "result") if key in document}
    inline = document.get("tree")
    if inline is not None and directory.is_dir():
        problem = f"there is a [tree], and the directory {directory.name}/ next to it; keep one of them"
        raise InvalidCase(f"{file}: {problem}")
    try:
        checked = Example(id="case", **{"params": {}, **fields}, tree=inline)
    except TaskDefinitionError as error:
        raise InvalidCase(f"{file}: {error.message}") from None
    return RunCase(
        label=file.stem,
        params=checked.params,
        tree=directory if directory.is_dir() else (inline or {}),
        expect=checked.expect,
        result=checked.result,
        published=_paths(file, document, "published"),
        removed=_paths(file, document, "removed"),
        file=file,
    )


def read_tree(source: TreeSource) -> dict[str, str | bytes | None]:
    """Return the tree as a mapping.

    Raises:
        InvalidCase: there is no such directory.
    """
    if isinstance(source, Mapping):
        return dict(source)
    if not source.is_dir():
        raise InvalidCase(f"the tree {source} is not a directory")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in files}


def _paths(file: Path, document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise InvalidCase(f"{file}: {key} must be a list of paths")
    return tuple(sorted(value))


# ------------------------------------------------------------------ whether a case can still be what it says


_WORKSPACE = workspace_block("repository", "main", "0" * 64)


def review(task: Task) -> str:
    """Return the problems of the declared examples, for `perago check`."""
    problems = []
    for example in task.examples:
        try:
            check_case(task, case_of_example(task, example))
        except CaseFailed as failure:
            problems.append(f"task {task.name!r}: {str(failure).partition(': ')[2]}")
    return "\n".join(problems)


def check_case(task: Task, case: RunCase) -> None:
    """Check a case without running the task.

    Raises:
        CaseFailed: its params or result are no longer valid, or its tree breaks the task's own rules.
    """
    params_are_valid = _check_params(task, case)
    if case.result is not None:
        _check_result(task, case)
    try:
        tree = read_tree(case.tree)
    except InvalidCase as error:
        raise CaseFailed(Cause.MISTAKE, f"{case.label!r}: {error}") from None
    if task.workspace is None:
        if tree or case.expect in ("pre", "post"):
            what = "a tree" if tree else f"expect={case.expect!r}"
            raise CaseFailed(Cause.MISTAKE, f"{case.label!r} has {what}, but the task has no workspace")
    elif params_are_valid:
        _check_tree(task.workspace, case, tree)


def _check_params(task: Task, case: RunCase) -> bool:
    payload = {"params": dict(case.params)}
    try:
        task_input = parse_input(task, payload if task.workspace is None else {**payload, "workspace": _WORKSPACE})
    except InvalidInput as error:
        if case.expect == "terminal":
            return False
        facts = ("expected", f"a valid {task.params_model.__name__}"), ("actual", "\n".join(error.problems))
        raise CaseFailed(Cause.CONTRACT, f"the params of {case.label!r} are not valid", *facts) from None
    if task_input.ignored:  # the case tests something else than it says
        raise CaseFailed(
            Cause.MISTAKE,
            f"the params of {case.label!r} set what {task.params_model.__name__} ignores",
            ("ignored", "\n".join(task_input.ignored)),
            ("fix", 'correct or remove it; with ConfigDict(extra="forbid") a workflow that sends it fails, too'),
        )
    return True


def _check_result(task: Task, case: RunCase) -> None:
    try:
        check_recorded_result(task, case.result)
        problem = schema_problem(output_schema(task)["properties"]["result"], case.result)
    except InvalidResult as error:
        problem = str(error)
    if problem is not None:
        facts = ("expected", f"a valid {task.result_model.__name__}"), ("actual", problem)
        raise CaseFailed(Cause.CONTRACT, f"the result of {case.label!r} is not valid", *facts)


def _check_tree(spec: WorkspaceSpec, case: RunCase, tree: Mapping[str, str | bytes | None]) -> None:
    view = View.of(spec)
    hidden = sorted(path for path, content in tree.items() if content is not None and not view.sees(path))
    if hidden:
        raise CaseFailed(
            Cause.MISTAKE,
            f"the task does not see {count(len(hidden), 'file')} of {case.label!r}",
            ("hidden", listing([quoted(path) for path in hidden])),
            ("by", str(view)),
            ("fix", "correct the globs of the workspace, or remove the files from the case"),
        )
    visible = {path: content for path, content in tree.items() if view.sees(path)}
    directories = [path for path, content in visible.items() if content is None]
    findings = evaluate(spec.pre, Listing(sizes_of(visible), directories), phase=Phase.PRE)
    violated = [finding.message for finding in findings if not finding.satisfied]
    contents_decide = any(isinstance(rule, ContentGuardrail) for rule in spec.pre)
    if case.expect == "pre" and not violated and not contents_decide:
        summary = f"{case.label!r} expects a pre guardrail to be violated, but its tree satisfies all"
        rules = map(str, spec.pre or ["no pre guardrail"])
        raise CaseFailed(Cause.RULE, summary, *(("rule", rule) for rule in rules), tree=tree)
    if case.expect != "pre" and violated:
        summary = f"the tree of {case.label!r} breaks the task's own guardrails"
        expected = ("expected", f"{case.expect}, after all pre guardrails are satisfied")
        raise CaseFailed(Cause.RULE, summary, expected, *(("rule", message) for message in violated), tree=tree)


FORMAT = 1
"""The format of `case.json`. Cases without one have format 1."""
CASE, INPUT, PUBLISHED, TASKDEF = "case.json", "input", "published", "taskdef.json"
WORKFLOW = ".workflow"
"""After the name of a workflow in the name of the directory of its cases, because a task may have the same name."""
ENDINGS = ("completed", "pre", "post", "failed", "terminal")
LARGEST_KEPT = 64 * 1024
"""Maximum size of a published file that is kept completely. Larger files are kept as size and digest."""
MOST_KEPT = 4 * 1024 * 1024
"""Maximum size of all kept published files together."""
WRITTEN_BY: dict[str, int | str] = {"perago.format": FORMAT, "perago.version": __version__}
_RECORDED_KEYS = {*WRITTEN_BY, "about", "expect", "params", "result", "published", "removed", "signals"}


@dataclass(frozen=True, slots=True)
class Record:
    """The expectations of a recorded case. None: not compared."""

    directory: Path
    ending: str
    reason: str
    """Why it failed; empty: not compared."""
    result: Any
    has_result: bool
    files: Mapping[str, Content | Digest] | None
    removed: frozenset[str]

    def expected(self, now: AttemptResult) -> AttemptResult:
        """Return the recorded result. Parts that are not compared are taken from the current result."""
        result = self.result if self.has_result else now.result
        files, removed = (now.files, now.removed) if self.files is None else (self.files, self.removed)
        return AttemptResult(self.ending, self.reason, result, files, removed)


def recorded_cases(directory: Path, task_name: str) -> tuple[Path, ...]:
    """Return the case directories of a task, sorted. A directory with a case file next to it is the tree of that
    case."""
    files = (directory / task_name).glob(f"*/{CASE}")
    directories = (file.parent for file in files if not file.parent.name.startswith("."))
    return tuple(
        sorted(directory for directory in directories if not directory.with_name(f"{directory.name}.toml").exists())
    )


def read_recorded_case(directory: Path) -> tuple[RunCase, Record]:
    """Read one case directory: the case, and the recorded outcome.

    Raises:
        InvalidCase: it is not in the format above, or contains links.
    """
    file = directory / CASE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCase(f"{file} is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("params"), dict):
        raise InvalidCase(f"{file}: must be an object with params, which are an object")
    if (file_format := document.get("perago.format", FORMAT)) != FORMAT:
        writer = document.get("perago.version", "a later version")
        fix = f"perago {__version__} reads format {FORMAT}; install {writer}, or capture the attempt again"
        raise InvalidCase(f"{file} has format {file_format}, written by perago {writer}: {fix}")
    unknown = sorted(set(document) - _RECORDED_KEYS)
    if unknown:
        raise InvalidCase(f"{file}: unknown key {unknown[0]!r}; a case has {', '.join(sorted(_RECORDED_KEYS))}")
    ending = document.get("expect", "completed")
    if ending not in ENDINGS:
        raise InvalidCase(f"{file}: expect is {ending!r}, but must be one of {', '.join(ENDINGS)}")
    tree: Any = _recorded_tree(directory / INPUT)
    published, removed = _published(directory, document), frozenset(_paths(file, document, "removed") or ())
    result, has_result = document.get("result"), "result" in document
    record = Record(directory, ending, _reason(document), result, has_result, published, removed)
    signals = document.get("signals", {})
    if not isinstance(signals, dict) or not all(isinstance(answers, list) for answers in signals.values()):
        raise InvalidCase(f"{file}: signals must be an object with a list for each step")
    return RunCase(directory.name, document["params"], tree, ending, file=file, signals=signals), record


def _reason(document: Mapping[str, Any]) -> str:
    """Return the reason of a recorded failure, unless a secret in it was redacted."""
    about = document.get("about")
    reason = about.get("reason") if isinstance(about, dict) else None
    return reason if isinstance(reason, str) and REDACTED not in reason else ""


def write_outcome(directory: Path, now: AttemptResult) -> None:
    """Replace the recorded outcome with the outcome of today's attempt.

    Raises:
        OSError: the directory cannot be written.
    """
    file = directory / CASE
    document = json.loads(file.read_text(encoding="utf-8"))
    for key in ("result", "published", "removed"):
        document.pop(key, None)
    if isinstance(about := document.get("about"), dict):
        about.pop("reason", None)
        about |= {"reason": now.reason} if now.reason else {}
    document |= {**WRITTEN_BY, **outcome_fields(now)}
    shutil.rmtree(directory / PUBLISHED, ignore_errors=True)
    keep_small_files(directory / PUBLISHED, now.files)
    replace_file(file, case_text(document).encode())


def outcome_fields(attempt: AttemptResult) -> dict[str, Any]:
    """Return the result of an attempt in the form of `case.json`."""
    fields: dict[str, Any] = {"expect": attempt.ending}
    if attempt.ending == "completed":
        digests = {path: digest_of(content) for path, content in sorted(attempt.files.items())}
        fields["result"] = attempt.result
        fields["published"] = {path: {"size": digest.size, "md5": digest.md5} for path, digest in digests.items()}
        fields["removed"] = sorted(attempt.removed)
    return fields


def case_text(document: Mapping[str, Any]) -> str:
    """Return `case.json` as text."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def keep_small_files(directory: Path, files: Mapping[str, Content | Digest]) -> None:
    """Write the small files, up to a limit."""
    total = 0
    for path, content in sorted(files.items()):
        size = digest_of(content).size
        if isinstance(content, Digest) or size > LARGEST_KEPT or total + size > MOST_KEPT:
            continue
        total += size
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def _recorded_tree(directory: Path) -> Mapping[str, Any]:
    if directory.is_symlink():
        raise InvalidCase(f"{directory} is a link; a case directory has none")
    if not directory.exists():
        return {}
    try:
        return read_sources([directory])
    except (BadTree, OSError) as error:
        raise InvalidCase(str(error)) from None


def _published(directory: Path, document: Mapping[str, Any]) -> Mapping[str, Content | Digest] | None:
    """Return the published files: those in the case directory, and digests of the others."""
    listed = document.get("published")
    recorded = _recorded_tree(directory / PUBLISHED)  # also if nothing is compared: an update of the case writes there
    if listed is None:
        return None
    where = f"{directory / CASE}: published"
    if not isinstance(listed, dict):
        raise InvalidCase(f"{where} must map paths to size and md5")
    strange = sorted(path for path, content in recorded.items() if path not in listed and content is not None)
    if strange:
        raise InvalidCase(f"{where} does not have {quoted(strange[0])}, which is in {PUBLISHED}/")
    published: dict[str, Content | Digest] = {}
    for path, facts in listed.items():
        known = facts if isinstance(facts, dict) else {}
        if not isinstance(known.get("size"), int) or not isinstance(known.get("md5"), str):
            raise InvalidCase(f"{where}: {quoted(path)} must have a size and an md5")
        content = recorded.get(path)
        published[path] = content if isinstance(content, bytes) else Digest(known["size"], known["md5"])
    return published


# ---------------------------------------------------------------- the failure of a case

_MOST_FILES = 20
_LONGEST_CONTENT = 400


class Cause(StrEnum):
    """The cause of a failure. Any other exception of a generated test is an error of the harness."""

    MISTAKE = "mistake in the task"
    RULE = "rule violated"
    CONTRACT = "broken contract"


class CaseFailed(AssertionError):
    """A generated test failed. The item that ran it adds `subject` and `rerun` before pytest prints it.

    Args:
        cause: the kind of the cause.
        summary: the problem in one line.
        facts: label and text, such as `("expected", "COMPLETED")`.
        tree: the tree of the test, shown as Python.
        details: blocks of text that follow.
        rerun_options: the options with which pytest finds the same example again.
        needs_others: whether the test fails only after other tests of its task.
    """

    def __init__(
        self,
        cause: Cause,
        summary: str,
        *facts: tuple[str, str],
        tree: Mapping[str, object] | None = None,
        details: Sequence[str] = (),
        rerun_options: Sequence[str] = (),
        needs_others: bool = False,
    ) -> None:
        super().__init__(summary)
        self.cause = cause
        self.summary = summary
        self.facts = facts
        self.tree = tree
        self.details: tuple[str, ...] = tuple(details)
        self.rerun_options: tuple[str, ...] = tuple(rerun_options)
        self.needs_others = needs_others
        self.subject: tuple[str, str] = ("", "")
        self.rerun = ""

    @property
    def headline(self) -> str:
        """Return the problem in one line: the summary and the first fact that adds something."""
        facts = dict(reversed(self.facts))
        more = next((facts[label] for label in ("actual", "rule", "ignored") if label in facts), "")
        return f"{self.summary}: {more}".rstrip(": ").replace("\n", "; ")

    def __str__(self) -> str:
        facts = ([self.subject] if self.subject[0] else []) + list(self.facts)
        if self.tree is not None:
            facts.append(("tree", tree_literal(self.tree)))
        lines = [f"{self.cause}: {self.summary}", *fact_lines(facts)]
        lines += [block.rstrip("\n") for block in self.details if block.strip()]
        if self.rerun:
            lines.append(f"rerun: {self.rerun}")
        return "\n".join(lines)


CaseFailed.__module__ = "builtins"  # pytest's short summary then shows the bare name, as for its own failures


def fact_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return aligned lines of labels and texts. The further lines of a text are below its first."""
    width = max((len(label) for label, _ in facts), default=0)
    indent = "\n" + " " * (width + 4)
    return [f"  {label:<{width}}  {text.replace(chr(10), indent)}" for label, text in facts]


def tree_literal(tree: Mapping[str, object]) -> str:
    """Return a tree as Python code for a test. Long contents and long trees are cut."""
    if not tree:
        return "{}"
    lines = [f"    {path!r}: {_content(content)}," for path, content in sorted(tree.items())[:_MOST_FILES]]
    if len(tree) > _MOST_FILES:
        lines.append(f"    # and {len(tree) - _MOST_FILES} more files")
    return "\n".join(["{", *lines, "}"])


def _content(content: object) -> str:
    if not isinstance(content, str | bytes) or len(content) <= _LONGEST_CONTENT:
        return repr(content)
    return f"{content[:_LONGEST_CONTENT]!r}  # the first of {len(content):,}"
