"""`perago capture`."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.loading import valid_settings
from perago.cli.parameters import IMPORT_LIMIT, Timeout, option
from perago.cli.past_attempt import NamedAttempt, OptionalModule, StepName, TaskId, Workflow
from perago.failure import Failure
from perago.processes import sigterm_unwinds
from perago.text import clock, count, listing

if TYPE_CHECKING:
    from perago.history.attempts import PathFilter
    from perago.history.capture import Captured

CASES = Path("tests/perago_cases")
MAX_BYTES = "20MiB"

EXAMPLES = """\b
Examples:
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago capture --workflow 6d1b9251-859b-4538-aefb-2cb95105520c --step build --name monday
  perago capture --workflow 6d1b9251-859b-4538-aefb-2cb95105520c        all its steps
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --only 'raw/2026-11-*/**' --max-bytes 100MiB
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --scrub my_tasks.scrubbing

Prints the case directory that was written. pytest then has a test of it."""


def command(
    task_id: TaskId = None,
    module: OptionalModule = None,
    workflow: Workflow = None,
    step: StepName = None,
    only: Annotated[list[str] | None, option("--only GLOB", "Only these input files. Can be repeated.")] = None,
    max_bytes: Annotated[str, option("--max-bytes SIZE", "The limit of all input files together.")] = MAX_BYTES,
    name: Annotated[
        str | None, option("--name NAME", "The name of the case. Default: day and start of the task id.")
    ] = None,
    output: Annotated[Path, option("--output -o DIR", "The directory of all cases: DIR/<task>/<name>/.")] = CASES,
    scrub: Annotated[
        str | None,
        option("--scrub MODULE", "A module with scrub hooks. Default: [tool.perago] scrub in pyproject.toml."),
    ] = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Write a past attempt, or a past run of a workflow, as a test case: params, input files, result, published files.

    Without --step, --workflow means the run with all its steps. perago finds it on the configured Conductor and its
    files on the configured lakeFS, and only reads both. It redacts values that look like secrets. It writes nothing
    until it has fetched everything.
    """
    if task_id is None and workflow is None:
        raise typer.BadParameter("name an attempt by TASK_ID or --workflow ID --step REF, or a run by --workflow ID.")
    is_run = workflow is not None and step is None and task_id is None
    named = None if is_run else NamedAttempt(task_id, module, workflow, step, timeout).checked()
    limit = _size(max_bytes)
    chosen = _chosen(only or [])
    if name is not None and (not name.strip(".") or "/" in name or name.startswith(".") or not name.isprintable()):
        raise typer.BadParameter("must be the name of a directory.", param_hint="'--name'")
    settings = valid_settings()
    from perago.configuration import Servers
    from perago.history.capture import CaptureOptions, Scrubber, capture, find_run, load_hooks

    scrub = scrub or _configured_hooks(Path("pyproject.toml"))
    hooks = load_hooks(scrub) if scrub is not None else {}
    with sigterm_unwinds(), Servers(settings, cached=True) as servers:
        if named is None:
            run = find_run(servers.workflows, str(workflow))
            store = None if run.run.workspace is None else servers.store
            past, cases, task = run.look_up(store), run.cases, run.run.task_name
            scope: dict[str, Any] = {"definition": run.schemas, "secrets": run.secrets()}
        else:
            replayable, past, _ = named.find(servers)
            store, cases, task = replayable.store(servers), replayable.task.name, replayable.task.name
            scope = {"definition": json.loads(replayable.task.definition), "sees": replayable.sees}
        safe = "".join(character for character in past.attempt.task_id if character.isalnum())
        name = name or f"{clock(past.attempt.started)[:10]}-{safe[:8]}"
        target = output / cases / name
        options = CaptureOptions(target, Scrubber(task, hooks), chosen=chosen, max_bytes=limit, **scope)
        try:
            captured = capture(store, past, options)
        except OSError as error:
            raise Failure(f"cannot write {target}: {error.strerror or error}; nothing was written") from error
    _show(captured)


def _configured_hooks(file: Path) -> str | None:
    """Return the module of the scrub hooks that the project configures.

    Raises:
        Failure: the file cannot be read, because a hook that is skipped would leak data.
    """
    if not file.exists():
        return None
    try:
        module = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("perago", {}).get("scrub")
    except (OSError, ValueError, AttributeError) as error:
        message = f"{file} may name scrub hooks, but cannot be read: {error}"
        raise Failure(message, "correct it, or give --scrub MODULE") from error
    if module is not None and not isinstance(module, str):
        message = f'{file}: scrub in [tool.perago] must be the import path of a module, such as "my_tasks.scrubbing"'
        raise Failure(message)
    return module


def _size(text: str) -> int:
    from perago.settings.variables import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--max-bytes'") from None


def _chosen(patterns: list[str]) -> PathFilter:
    from perago.authoring.workspace import canonical_pattern
    from perago.history.attempts import everything
    from perago.workspace.keys import compile_glob

    try:
        compiled = [compile_glob(canonical_pattern(pattern)) for pattern in patterns]
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--only'") from None
    if not compiled:
        return everything
    return lambda path: any(pattern.fullmatch(path) for pattern in compiled)


def _show(captured: Captured) -> None:
    """Print the directory on standard output, and notes about its contents on standard error."""
    left = f", {captured.left_out:,} omitted" if captured.left_out else ""
    rest = captured.published - captured.complete
    large = f", {rest:,} of them only by size and hash" if rest else ""
    from perago.history.redaction import token_scanner

    messages.note(f"{count(captured.files, 'input file')}{left}; {count(captured.published, 'published file')}{large}")
    if token_scanner() is None:
        messages.note(
            "only perago's own list of tokens was searched; for more, install the extra secrets (perago help install)"
        )
    if captured.redacted:
        messages.warning(f"redacted, because they look like secrets: {listing(list(captured.redacted))}")
    if captured.replaced:
        messages.warning(f"replaced by the scrub hooks: {listing(list(captured.replaced))}")
    if captured.replaced or captured.redacted or captured.left_out:
        advice = "if the test differs without them, record the new outcome: pytest --perago-update=all"
        messages.note(f"the outcome was recorded with all values and files; {advice}")
    sys.stdout.write(f"{captured.directory}\n")
