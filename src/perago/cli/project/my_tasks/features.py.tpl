from pathlib import Path

from pydantic import BaseModel, Field

from perago import Example, WorkspaceSpec, forbid_glob, require_glob, task


class Params(BaseModel, extra="forbid"):
    min_rows: int = Field(default=1, ge=0)


class Result(BaseModel):
    files: int


@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(
        pre=[require_glob("raw/**/*.csv")],
        post=[require_glob("features/*.csv"), forbid_glob("**/*.tmp")],
    ),
    examples=[
        Example(id="minimal", params={}, tree={"raw/a.csv": "x\n1\n2\n"}, result={"files": 1}),
        Example(id="too-few-rows", params={"min_rows": 3}, tree={"raw/a.csv": "x\n1\n2\n"}, expect="post"),
    ],
)
def build_features(workspace: Path, params: Params) -> Result:
    """Copy each table that has enough rows, with its header in capitals."""
    target = workspace / "features"
    target.mkdir(exist_ok=True)
    files = 0
    for table in sorted(workspace.glob("raw/**/*.csv")):
        header, *rows = table.read_text().splitlines()
        if len(rows) < params.min_rows:
            continue
        (target / table.name).write_text("\n".join([header.upper(), *rows]) + "\n")
        files += 1
    return Result(files=files)
