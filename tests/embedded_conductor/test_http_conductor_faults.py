"""Faults on the wire and in the model, as a client of the REST interface meets them."""

from __future__ import annotations

import pytest
import urllib3

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.faults import FaultScript
from perago.embedded.http.conductor import conductor_app
from perago.ports import AccessDenied, ServiceError, Unavailable
from tests.http_faults import HttpFaultScript, HttpMoment

from .conftest import Served, prepared
from .http_client import Http


@pytest.mark.parametrize(("moment", "status"), [(HttpMoment.BEFORE, "IN_PROGRESS"), (HttpMoment.AFTER, "COMPLETED")])
def test_a_lost_answer_leaves_an_update_done_or_not(
    http: Http, conductor: InMemoryConductor, script: HttpFaultScript, moment: HttpMoment, status: str
) -> None:
    workflow_id = conductor.start_workflow("w")
    (task,) = conductor.poll_tasks("t")
    script.drop("POST", "/api/tasks$", moment=moment)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http("POST", "/tasks", {"taskId": task["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED"})
    assert conductor.get_task(task["taskId"])["status"] == status
    assert script.unused() == ()


def test_a_lost_answer_of_update_v2_loses_a_further_attempt(
    http: Http, conductor: InMemoryConductor, script: HttpFaultScript
) -> None:
    workflow_id = conductor.start_workflow("w")
    (task,) = conductor.poll_tasks("t")
    script.drop("POST", "update-v2", moment=HttpMoment.AFTER)
    result = {"taskId": task["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http("POST", "/tasks/update-v2", result)
    assert conductor.workflow(workflow_id)["tasks"][1]["status"] == "IN_PROGRESS"
    assert http("POST", "/tasks/update-v2", result).status == 204


def test_an_answer_can_be_replaced(http: Http, script: HttpFaultScript) -> None:
    script.answer("GET", "/api/tasks/poll", status=503, nth=2)
    assert [http("GET", "/tasks/poll/t").status for _ in range(3)] == [204, 503, 204]


@pytest.mark.parametrize(("error", "status"), [(Unavailable, 503), (AccessDenied, 401)])
def test_a_fault_of_the_model_is_an_answer(served: Served, error: type[ServiceError], status: int) -> None:
    faults = FaultScript().before("get_task", error=error)
    served.app = conductor_app(prepared(InMemoryConductor(VirtualClock(), faults)))
    http = Http(served.url)
    answer = http("GET", "/tasks/x")
    http.close()
    assert (answer.status, answer.message) == (status, "injected fault (before it takes effect)")
