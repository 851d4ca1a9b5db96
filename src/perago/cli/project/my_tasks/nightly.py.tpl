from pydantic import BaseModel

from my_tasks.features import Params, build_features
from my_tasks.report import Report, ReportParams, write_report
from perago.workflows import Flow, workflow


class Given(BaseModel):
    min_rows: int = 1
    title: str = "Rows"


@workflow(name="features.nightly", version=1, owner_email="data@example.com")
def nightly(flow: Flow, given: Given) -> Report:
    flow.step("build", build_features, Params, min_rows=given.min_rows)
    return flow.step("report", write_report, ReportParams, title=given.title).result
