"""Record the metadata of what one version of perago publishes.

    python tests/driver/record_publications.py > fixtures/publications/<form>.json

With `PYTHONPATH=<checkout>/src` that is any version that has been there: nothing but its testing toolkit is used. The
task, its params and the start of its clock are those of `tests.driver.world`, so the digests are the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task
from perago.authoring.task import get_task
from perago.testing.services import InMemoryServices

TREE = {"raw/a.csv": "1", "raw/b.csv": "2"}


class Params(BaseModel):
    quiet: Literal["never"] = "never"
    began: int


class Nothing(BaseModel):
    pass


@task(
    name="matrix.edit",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(),
    controls=TaskControls(retry=RetryPolicy(count=5, delay_seconds=1)),
)
def edit(workspace: Path, params: Params) -> Nothing:
    """Change one file."""
    (workspace / "raw/a.csv").write_text("changed")
    return Nothing()


TASK: Any = get_task(edit)


def recorded() -> dict[str, dict[str, str]]:
    """By phase: the metadata of a staging commit, of the merge of it, of a fence commit that adopts it, and of a merge
    that supersedes both after a rerun."""
    found = dict[str, dict[str, str]]()

    def keep(name: str, given: Mapping[str, str]) -> None:
        found.setdefault(name, {key: value for key, value in given.items() if key.startswith("perago.")})

    with InMemoryServices() as services:
        _listen(services.lakefs, keep)
        params = {"quiet": "never", "began": int(services.clock.now() * 1000)}
        services.run(edit, params, dict(TREE))
    with InMemoryServices() as services:
        services.start_raw(TASK, _payload(services))
        services.attempt(edit, report=False)
        services.clock.advance(601)
        services.conductor.sweep()
        services.clock.advance(2)
        _listen(services.lakefs, keep)
        adopted = services.attempt(edit)
        services.clock.advance(1)
        row = adopted.task
        services.conductor.rerun_workflow(row["workflowInstanceId"], row["taskId"])
        _listen(services.lakefs, lambda name, given: keep("supersedes" if name == "merge" else name, given))
        services.attempt(edit)
    return found


def _payload(services: InMemoryServices) -> dict[str, Any]:
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": services.seed(dict(TREE))}
    return {"workspace": block, "params": {"quiet": "never", "began": int(services.clock.now() * 1000)}}


def _listen(store: Any, keep: Callable[[str, Mapping[str, str]], None]) -> None:
    """Hear the metadata of what is committed and merged, whatever else the call has."""
    for name in ("commit", "merge"):
        inner = getattr(store, name)

        def call(*arguments: Any, inner: Any = inner, **options: Any) -> Any:
            for given in (*arguments, *options.values()):
                if isinstance(given, Mapping) and "perago.phase" in given:
                    keep(given["perago.phase"], given)
            return inner(*arguments, **options)

        setattr(store, name, call)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(recorded(), indent=2) + "\n")
