"""Write a past attempt, or a run of a workflow, as a case directory, after the scrub hooks of the project.

A module of the project has one or more of these hooks. Each gets the name of the task or workflow first:

    def scrub_params(task: str, params: dict) -> dict: ...
    def scrub_result(task: str, result: object) -> object: ...
    def scrub_file(task: str, path: str, content: bytes) -> bytes | None: ...   # None leaves the file out
"""

from __future__ import annotations

import datetime
import importlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perago.conductor_json import mapping, rows_of, step_type
from perago.history.attempts import (
    NotReplayable,
    Past,
    PastAttempt,
    PathFilter,
    Records,
    attempt_from,
    everything,
    input_commit,
    past_workspace,
    published_since,
    refusing_deleted,
    refusing_unknown,
)
from perago.history.redaction import (
    SHORTEST,
    known_secrets,
    note,
    redact,
    redact_definition,
    replace_known,
    schema_of,
)
from perago.ports import WorkspaceStore
from perago.settings import Mask
from perago.settings.mask import may_be_token
from perago.taskdef.schema import same_json
from perago.text import quoted
from perago.trees import cases
from perago.trees.differences import AttemptResult, Content, Digest, digest_of
from perago.workflows.waiting import is_wait, signal_name, signal_schema
from perago.workspace.keys import is_reserved

_ENDED = ("COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR")


@dataclass(frozen=True, slots=True)
class Captured:
    """The case directory that was written."""

    directory: Path
    files: int
    """Input files."""
    left_out: int
    """Input files that were not chosen."""
    complete: int
    """Published files that were kept completely."""
    published: int
    """All published files."""
    redacted: tuple[str, ...]
    """JSON pointers of values that looked like secrets."""
    replaced: tuple[str, ...]
    """The values and files that the scrub hooks have replaced."""


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """The part of an attempt that is captured, and its target."""

    target: Path
    """The case directory, which does not exist yet."""
    scrubber: Scrubber
    sees: PathFilter = everything
    """Whether the task sees a file of its workspace."""
    chosen: PathFilter = everything
    """Whether a file that the task sees is captured."""
    max_bytes: int | None = None
    """The bytes of all input files together."""
    definition: Mapping[str, Any] | None = None
    """Today's TaskDef, whose schemas mark secrets in addition to the schemas of the time."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets that are known from elsewhere, by their places."""


def capture(store: WorkspaceStore | None, past: Past, options: CaptureOptions) -> Captured:
    """Write the case directory. It appears in one step, after everything has been downloaded and scrubbed.

    Args:
        store: the lakeFS; None for a task without a workspace.
        past: the attempt.
        options: the captured parts, and the destination.

    Raises:
        NotReplayable: the attempt cannot be captured, or would contain a secret. Nothing was written.
        ServiceError: lakeFS did not answer.
        OSError: the disk failed.
    """
    if past.attempt.status not in _ENDED:
        other = "run" if past.attempt.is_workflow else "attempt, or run this one with perago replay"
        problem = f"{past.attempt.label} neither completed nor failed: it is {past.attempt.status}"
        raise NotReplayable(problem, f"capture another {other}")
    if options.target.exists() or options.target.is_symlink():
        problem = f"{options.target} already exists; nothing was written"
        raise NotReplayable(problem, "give another --name, or delete the directory")
    options.target.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=f".{options.target.name}-", dir=options.target.parent))
    try:
        with refusing_deleted(past.attempt):
            captured = _Capture(store, past, options, incoming, dict(options.secrets)).write()
        incoming.chmod(0o755)
        incoming.rename(options.target)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return captured


@dataclass(slots=True)
class _Capture:
    store: WorkspaceStore | None
    past: Past
    options: CaptureOptions
    directory: Path
    known: dict[str, str]
    """All secrets of the attempt, including values that a hook has replaced."""
    redactions: dict[str, str] = field(default_factory=dict)

    def write(self) -> Captured:
        """Fetch, scrub, check and write."""
        attempt, scrubber = self.past.attempt, self.options.scrubber
        params = self._without_secrets(attempt.params, scrubber.params, "params")
        result = self._without_secrets(attempt.result, scrubber.result, "result")
        about, in_about = redact(self._about(), pointer="/about")
        signals, in_signals = redact(attempt.signals, pointer="/signals")
        definition, in_definition = redact_definition(attempt.definition or {})
        self.redactions |= in_about | in_definition | in_signals
        self.known |= in_about | in_definition | in_signals
        total = self._fetch_input()
        files = self._fetch_published()
        known = known_secrets(self.known)
        result = replace_known(result, known)
        written = AttemptResult(attempt.ending, attempt.reason, result, files, self.past.published.removed)
        document = {**cases.WRITTEN_BY, "about": about, "params": params, **cases.outcome_fields(written)}
        document |= {"signals": signals} if signals else {}
        document |= {
            key: replace_known(document[key], known) for key in ("about", "params", "signals") if key in document
        }
        (self.directory / cases.CASE).write_text(cases.case_text(document), encoding="utf-8")
        if definition:
            (self.directory / cases.TASKDEF).write_text(
                cases.case_text(replace_known(definition, known)), encoding="utf-8"
            )
        self._check_for_secrets(known)
        input_files = sum(path.is_file() for path in (self.directory / cases.INPUT).rglob("*"))
        complete = sum(isinstance(content, Path) for content in files.values())
        redactions, replaced = tuple(replace_known(list(self.redactions), known)), tuple(scrubber.replaced)
        return Captured(
            self.options.target, input_files, total - input_files, complete, len(files), redactions, replaced
        )

    def _without_secrets(self, value: Any, scrub: Callable[[Any], Any], what: str) -> Any:
        """Return the value after the hooks, without secrets. A value that a hook has replaced is remembered, because it
        may be in other places, too."""
        definitions = (self.past.attempt.definition, self.options.definition)
        schemas = [schema_of(definition, what) for definition in definitions]
        for schema in schemas:
            self.known |= redact(value, schema, f"/{what}")[1]
        value = scrub(value)
        for schema in schemas:
            value, redactions = redact(value, schema, f"/{what}")
            self.redactions = {**redactions, **self.redactions}
        self.known = {**self.redactions, **self.known}
        return value

    def _fetch_input(self) -> int:
        """Fetch the files that are wanted, and return the number of all input files."""
        past = self.past
        if past.input_ref is None:
            return 0
        directory = self.directory / cases.INPUT
        directory.mkdir()
        visible: set[str] = set()

        def chosen(path: str) -> bool:
            is_file = path != "" and not path.endswith("/") and not is_reserved(past.prefix + path)
            if not is_file or not self.options.sees(path):
                return False
            visible.add(path)
            return self.options.chosen(path)

        brought = past.fetch(self.store, past.input_ref, directory, chosen, max_bytes=self.options.max_bytes)
        if visible and not brought:
            problem = f"--only selects none of the {len(visible):,} input files; nothing was written"
            raise NotReplayable(problem, "write a glob of paths in the workspace, such as --only 'raw/**/*.csv'")
        for path, file in brought.items():
            self.options.scrubber.file(path, file)
        return len(visible)

    def _fetch_published(self) -> dict[str, Content | Digest]:
        """Return the files that the attempt published: small ones on disk, digests of the others."""
        published = self.past.published
        if published.commit is None:
            return {}
        directory = self.directory / cases.PUBLISHED
        directory.mkdir()
        brought = self.past.fetch(self.store, published.commit, directory, _small(published.files).__contains__)
        scrubber = self.options.scrubber
        downloaded = {path: _content_or_digest(file) for path, file in brought.items() if scrubber.file(path, file)}
        large = {path: digest for path, digest in published.files.items() if digest is not None and path not in brought}
        return {**downloaded, **large}

    def _check_for_secrets(self, known: Mapping[str, Mask]) -> None:
        """Refuse a secret in a written file or its name.

        Raises:
            NotReplayable: there is one.
        """
        for file in sorted(path for path in self.directory.rglob("*") if path.is_file()):
            name, content = file.relative_to(self.directory).as_posix(), file.read_bytes()
            for place, mask in known.items():
                if len(self.known[place]) < SHORTEST and not may_be_token(self.known[place], 0):
                    continue  # a short word, such as `admin`, is in many files
                in_name = mask.finds(name.encode("utf-8", "surrogateescape"))
                if in_name or mask.finds(content):
                    where = "the name of a file" if in_name else f"the file {quoted(name)}"
                    problem = f"the secret at {replace_known(place, known)} is in {where}, too; nothing was written"
                    fix = "replace the secret in a scrub hook (--scrub MODULE), or omit the file with --only GLOB"
                    raise NotReplayable(problem, fix)

    def _about(self) -> dict[str, Any]:
        attempt = self.past.attempt
        started = datetime.datetime.fromtimestamp(max(0, attempt.started) / 1000, datetime.UTC)
        about: dict[str, Any] = {
            "task": None if attempt.is_workflow else attempt.task_name,
            "task_id": None if attempt.is_workflow else attempt.task_id,
            "workflow": attempt.workflow_name,
            "workflow_id": attempt.workflow_id,
            "step": None if attempt.is_workflow else attempt.reference_name,
            "started": started.isoformat(timespec="seconds") if attempt.started > 0 else None,
            "seconds": attempt.seconds,
            "status": attempt.status,
            "reason": attempt.reason or None,
        }
        if attempt.workspace is not None:
            about |= {
                "repository": attempt.workspace.repository,
                "branch": attempt.workspace.branch,
                "input_ref": self.past.input_ref,
                "published": self.past.published.commit,
            }
        return {key: value for key, value in about.items() if value is not None}


def _content_or_digest(file: Path) -> Content | Digest:
    """Return a fetched file for the case. A file that is too large becomes a digest."""
    if file.stat().st_size <= cases.LARGEST_KEPT:
        return file
    digest = digest_of(file)
    file.unlink()
    return digest


def _small(files: Mapping[str, Digest | None]) -> set[str]:
    """Choose the published files to fetch: small ones up to a limit, and those whose digest lakeFS does not know."""
    fetched = {path for path, digest in files.items() if digest is None}
    total = 0
    for path, digest in sorted(files.items()):
        if digest is not None and digest.size <= cases.LARGEST_KEPT and total + digest.size <= cases.MOST_KEPT:
            total += digest.size
            fetched.add(path)
    return fetched


HOOKS = ("scrub_params", "scrub_result", "scrub_file")


@dataclass(slots=True)
class Scrubber:
    """Calls the hooks for one task. Without hooks everything stays as it is."""

    task: str
    hooks: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    """The replaced values and files, in words."""

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scrubbed params.

        Raises:
            NotReplayable: the hook raised, or returned no JSON object.
        """
        scrubbed = self._json("scrub_params", dict(params), "params")
        if not isinstance(scrubbed, dict):
            raise _broken("scrub_params", f"returned {type(scrubbed).__name__}; it must return the params, a dict")
        return scrubbed

    def result(self, result: Any) -> Any:
        """Return the scrubbed result.

        Raises:
            NotReplayable: the hook raised, or returned no JSON.
        """
        return self._json("scrub_result", result, "the result")

    def file(self, path: str, file: Path) -> bool:
        """Replace the content of a fetched file. Return False if the hook leaves the file out.

        Raises:
            NotReplayable: the hook raised, or returned neither bytes nor None.
        """
        if "scrub_file" not in self.hooks:
            return True
        before = file.read_bytes()
        after = self._call("scrub_file", path, before)
        if after is None:
            self.replaced.append(f"{path} was left out")
            file.unlink()
            return False
        if not isinstance(after, bytes):
            raise _broken("scrub_file", f"returned {type(after).__name__} for {quoted(path)}; it must return bytes")
        if after != before:
            self.replaced.append(path)
            file.write_bytes(after)
        return True

    def _json(self, hook: str, value: Any, what: str) -> Any:
        if hook not in self.hooks:
            return value
        original = json.dumps(value)
        try:
            scrubbed = json.loads(json.dumps(self._call(hook, json.loads(original)), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise _broken(hook, f"returned a value that is not JSON ({type(error).__name__})") from error
        if not same_json(scrubbed, json.loads(original)):
            self.replaced.append(what)
        return scrubbed

    def _call(self, hook: str, *arguments: Any) -> Any:
        try:
            return self.hooks[hook](self.task, *arguments)
        except Exception as error:
            raise _broken(hook, f"raised {type(error).__name__}") from error  # the message may have what must not leave


def load_hooks(name: str) -> dict[str, Callable[..., Any]]:
    """Import the module of the hooks, and return them.

    Raises:
        NotReplayable: it cannot be imported, or has no hook.
    """
    try:
        module = importlib.import_module(name)
    except Exception as error:
        problem = f"the module of the scrub hooks cannot be imported: {name}: {type(error).__name__}: {error}"
        raise NotReplayable(problem, "give its import path; the current directory is importable") from error
    hooks = {hook: getattr(module, hook) for hook in HOOKS if callable(getattr(module, hook, None))}
    if not hooks:
        problem = f"module {name} has no scrub hook; nothing was fetched"
        raise NotReplayable(problem, f"give it one of the functions {', '.join(HOOKS)}")
    return hooks


def _broken(hook: str, what: str) -> NotReplayable:
    return NotReplayable(f"{hook} {what}; nothing was written", "correct the hook (perago help cli explains hooks)")


# ----------------------------------------------------------------------- runs of workflows


_MOST_WORKFLOWS = 1000
_FAILED = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")
"""Not the steps that were canceled because of another one, and not optional ones."""
_MOVED = "was moved to external storage by Conductor, and perago does not read that"
_SMALLER = "write large results to the workspace, and capture a run with smaller ones"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run of a workflow, with the attempts of its steps and sub-workflows."""

    run: PastAttempt
    steps: tuple[PastAttempt, ...]
    waits: tuple[Mapping[str, Any], ...]
    """Its steps that waited for a signal."""
    schemas: Mapping[str, Any]
    """Its schemas in the places in which a TaskDef has those of params and result."""

    @property
    def cases(self) -> str:
        """The directory of its cases.

        Raises:
            NotReplayable: the name of the workflow cannot be one of perago.
        """
        if not _NAME.fullmatch(self.run.task_name):
            raise NotReplayable(f"the name {quoted(self.run.task_name)} cannot be that of a workflow in Python")
        return self.run.task_name + cases.WORKFLOW

    def secrets(self) -> dict[str, str]:
        """Return the values that the schemas of the steps mark as secrets, by their places."""
        secrets: dict[str, str] = {}
        for row in self.waits:
            place = f"/signals/{row.get('referenceTaskName')}"
            secrets |= redact(row.get("outputData"), signal_schema(row), place)[1]
        for step in self.steps:
            for what, value in (("params", step.params), ("result", step.result)):
                pointer = f"/steps/{step.reference_name}/{what}"
                for place, secret in redact(value, schema_of(step.definition, what), pointer)[1].items():
                    if secret not in secrets.values():
                        note([secret], place, secrets)  # retries and sub-workflows repeat the names of steps
        return secrets

    def look_up(self, store: WorkspaceStore | None) -> Past:
        """Read the input commit, and what the steps have published.

        Raises:
            NotReplayable: lakeFS no longer has it.
            ServiceError: lakeFS did not answer.
        """
        workspace = self.run.workspace
        if workspace is None or store is None:
            return Past(self.run, "")
        with refusing_deleted(self.run):
            ref = input_commit(store, workspace)
            return Past(self.run, "", ref, published_since(store, workspace, ref, self.steps))


def find_run(records: Records, workflow_id: str) -> PastRun:
    """Return the run of a workflow.

    Raises:
        NotReplayable: it does not exist, or has no input in Conductor.
        ServiceError: Conductor did not answer.
    """
    with refusing_unknown(f"workflow {quoted(workflow_id)}"):
        row = records.workflow(workflow_id)
    payload = row.get("input")
    if row.get("externalInputPayloadStoragePath") or not isinstance(payload, Mapping):
        raise NotReplayable(f"workflow {workflow_id} has no input in Conductor, which has moved or lost it")
    if row.get("externalOutputPayloadStoragePath"):
        raise NotReplayable(f"the output of workflow {workflow_id} {_MOVED}", _SMALLER)
    label = f"workflow {workflow_id}"
    rows = list(_rows(records, row))
    steps = sorted(map(attempt_from, filter(_is_attempt, rows)), key=lambda step: step.ended)
    waits = sorted(filter(is_wait, rows), key=lambda wait: int(wait.get("scheduledTime") or 0))
    signals: dict[str, list[Any]] = {}
    for wait in waits:
        answer = wait.get("outputData") if wait.get("status") == "COMPLETED" else None
        signals.setdefault(signal_name(wait), []).append(answer)
    reasons = [step.reason for step in steps if step.status in _FAILED and step.reason]
    reason = reasons[-1] if reasons else str(row.get("reasonForIncompletion") or "")
    definition = row.get("workflowDefinition") or {}
    data = (definition.get("inputSchema") or {}).get("data") or {}
    run = PastAttempt(
        task_id=workflow_id,
        task_name=str(row.get("workflowName") or definition.get("name")),
        workflow_id=workflow_id,
        workflow_name=str(row.get("workflowName") or ""),
        reference_name="",
        status=str(row.get("status")),
        reason="" if row.get("status") == "COMPLETED" else reason,
        params={key: value for key, value in payload.items() if key != "workspace"},
        result=(row.get("output") or {}).get("result"),
        workspace=past_workspace(label, payload.get("workspace"), None),
        started=int(row.get("startTime") or 0),
        ended=int(row.get("endTime") or 0),
        definition=None,
        is_workflow=True,
        signals=signals,
    )
    given_schema = {"data": {"properties": {"params": data}}}
    schemas = {"inputSchema": given_schema, "outputSchema": definition.get("outputSchema") or {}}
    return PastRun(run, tuple(steps), tuple(waits), schemas)


def _rows(records: Records, workflow: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a workflow and of its sub-workflows that have ended, as Conductor's JSON.

    Raises:
        NotReplayable: there are too many.
    """
    waiting, read = [workflow], 0
    while waiting:
        for row in rows_of(waiting.pop(0)):
            if inner := row.get("subWorkflowId"):
                read += 1
                if read > _MOST_WORKFLOWS:
                    raise NotReplayable(f"the workflow has more than {_MOST_WORKFLOWS:,} sub-workflows")
                waiting.append(records.workflow(inner))
            elif row.get("endTime"):
                yield row


def _is_attempt(row: Mapping[str, Any]) -> bool:
    """Whether a task is an attempt of a perago task.

    Raises:
        NotReplayable: Conductor has moved its output, which names its publication.
    """
    is_work = step_type(row) == "SIMPLE"
    if is_work and row.get("externalOutputPayloadStoragePath"):
        raise NotReplayable(f"the output of task {row.get('taskId')} {_MOVED}", _SMALLER)
    has_params = isinstance(mapping(row.get("inputData")).get("params"), Mapping)
    return has_params or bool(is_work and row.get("externalInputPayloadStoragePath"))
