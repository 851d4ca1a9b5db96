"""Task functions that fill the models: what they do is chosen by a parameter."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, TaskFailed, TaskTerminalError, WorkspaceSpec, current, require_glob, task


class Params(BaseModel):
    do: str = "publish"
    label: str


class Result(BaseModel):
    rows: int


@task(
    name="table.summarise",
    description="Count the rows of every table.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")]),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
)
def summarise(workspace: Path, params: Params) -> Result:
    if params.do == "fail once" and current().retry_count == 0:
        raise TaskFailed("raw/orders.csv: row 17 has 3 columns, the header has 4")
    if params.do == "refuse":
        raise TaskTerminalError("raw/orders.csv has no column 'price'")
    rows = sum(len(table.read_text().splitlines()) - 1 for table in workspace.glob("raw/*.csv"))
    (workspace / "summary").mkdir(exist_ok=True)
    (workspace / "summary" / "rows.txt").write_text(f"{params.label}: {rows}\n")
    (workspace / "raw" / "orders.csv").write_text("id,price\n1,10\n")
    (workspace / "raw" / "scratch.csv").unlink(missing_ok=True)
    return Result(rows=rows)


@task(name="message.send", owner_email="data@example.com")
def send(params: Params) -> Result:
    return Result(rows=len(params.label))
