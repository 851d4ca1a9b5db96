from pathlib import Path

from pydantic import BaseModel

from perago import Example, WorkspaceSpec, require_glob, task


class ReportParams(BaseModel, extra="forbid"):
    title: str


class Report(BaseModel):
    rows: int


@task(
    name="features.report",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(post=[require_glob("report.txt")]),
    examples=[
        Example(id="minimal", params={"title": "Rows"}, tree={"features/a.csv": "X\n1\n"}, result={"rows": 1}),
    ],
)
def write_report(workspace: Path, params: ReportParams) -> Report:
    """Count the rows of all features."""
    rows = sum(len(table.read_text().splitlines()) - 1 for table in workspace.glob("features/*.csv"))
    (workspace / "report.txt").write_text(f"{params.title}: {rows}\n")
    return Report(rows=rows)
